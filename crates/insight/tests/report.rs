//! Reports of runs: of a resumed run, of one that is not finished, without its data, and with names that look like HTML.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_base::Error;
use neocog_data::{ByteImage, Dataset, Split};
use neocog_insight::report::{ReportOptions, render};
use neocog_insight::{Run, compare};
use neocog_layers::{Flatten, LayerSpec, Linear, Sequential};
use neocog_tensor::Device;
use neocog_train::{
    BatchReport, CheckpointDir, EpochReport, FitOutcome, NoProgress, Progress, TrainConfig, Trainer,
};

fn config() -> TrainConfig {
    TrainConfig::for_network("lenet", "digits").unwrap().with_epochs(3).with_limit(70).with_batch(16)
}

fn data(config: &TrainConfig) -> Split {
    config.load_data(Path::new("data")).unwrap()
}

struct StopAfter<'a>(usize, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn batch(&mut self, _report: &BatchReport) {
        self.0 -= 1;
        self.1.store(self.0 == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, _report: &EpochReport) {}
}

/// Trains in the directory `dir`, stopped after `batches` batches if that is given.
fn train(trainer: &mut Trainer, dir: &Path, batches: Option<usize>) -> FitOutcome {
    let data = data(trainer.config());
    let folder = CheckpointDir::create(dir).unwrap();
    let stop = AtomicBool::new(false);
    match batches {
        Some(batches) => trainer.fit(&data, Some(&folder), &mut StopAfter(batches, &stop), &stop).unwrap(),
        None => trainer.fit(&data, Some(&folder), &mut NoProgress, &stop).unwrap(),
    }
}

fn new_trainer() -> Trainer {
    let config = config();
    Trainer::new(config.clone(), &*data(&config).train, &Device::Cpu).unwrap()
}

fn page(dir: &Path) -> String {
    let run = Run::open(dir).unwrap();
    let report = render(&run, Ok(&data(&run.last.config)), &ReportOptions::new()).unwrap();
    assert_eq!(report.missing, None);
    report.html
}

/// Removes the times.
fn without_times(page: &str) -> String {
    let mut parts = page.split("<time>");
    let first = parts.next().unwrap().to_string();
    parts.fold(first, |all, part| all + part.split_once("</time>").unwrap().1)
}

/// The page loads nothing and executes nothing.
fn assert_self_contained(page: &str) {
    for (attribute, allowed) in [("src=\"", "data:image/png;base64,"), ("href=\"", "#"), ("url(", "#")] {
        for part in page.split(attribute).skip(1) {
            assert!(part.starts_with(allowed), "{attribute}{}", &part[..40]);
        }
    }
    for forbidden in ["<script", "<link", "<iframe", "@import", "onerror=", "onload="] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let addresses = page.matches("http").count();
    let harmless = page.matches("http://www.w3.org/2000/svg").count() + page.matches("http-equiv").count();
    assert_eq!(addresses, harmless, "the page has an address");
}

#[test]
fn the_report_of_a_resumed_run_is_that_of_an_unbroken_one() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = ["a/run", "b/run"].map(|name| folder.path().join(name));
    train(&mut new_trainer(), &dirs[0], None);
    // Seven batches: within the second epoch.
    assert!(matches!(train(&mut new_trainer(), &dirs[1], Some(7)), FitOutcome::Stopped(Some(_))));
    let unfinished = page(&dirs[1]);
    assert!(unfinished.contains("Not finished: 1 of 3 epochs, and 2 batches of the next."), "{unfinished}");
    let checkpoint = CheckpointDir::read_to_resume(&dirs[1].join(CheckpointDir::LAST)).unwrap();
    train(&mut Trainer::resume(checkpoint, &Device::Cpu).unwrap(), &dirs[1], None);
    let [unbroken, resumed] = dirs.each_ref().map(|dir| page(dir));
    assert!(unbroken.contains("Finished: 3 of 3 epochs."), "{unbroken}");
    assert_self_contained(&unbroken);
    assert_eq!(without_times(&unbroken), without_times(&resumed));
    assert_ne!(without_times(&unbroken), without_times(&unfinished));

    let runs = dirs.each_ref().map(|dir| Run::open(dir).unwrap());
    let comparison = compare::render(&runs).unwrap();
    assert!(comparison.contains("run (1)") && comparison.contains("run (2)"), "{comparison}");
    assert_self_contained(&comparison);
}

#[test]
fn a_run_without_an_epoch_and_one_without_its_data_have_reports_that_say_so() {
    let folder = tempfile::tempdir().unwrap();
    train(&mut new_trainer(), folder.path(), Some(2));
    let run = Run::open(folder.path()).unwrap();
    let report = render(&run, Ok(&data(&config())), &ReportOptions::new()).unwrap();
    assert!(report.html.contains("No epoch is finished"), "{}", report.html);
    assert_eq!(report.missing.as_deref(), Some("no epoch is finished"));
    assert!(report.html.contains("Not finished: 0 of 3 epochs, and 2 batches of the next."));

    let other = folder.path().join("other");
    train(&mut new_trainer(), &other, None);
    let run = Run::open(&other).unwrap();
    let e = Error::invalid_argument("the folder <i>gone</i> does not exist");
    let report = render(&run, Err(&e), &ReportOptions::new()).unwrap();
    assert!(report.html.contains("cannot be read: the folder &lt;i&gt;gone&lt;/i&gt; does not exist"));
    assert!(report.html.contains("<h2>Curves</h2>") && !report.html.contains("<h2>Confusion matrix</h2>"));
    let late = ReportOptions::new().time_limit(Some(std::time::Duration::ZERO));
    let report = render(&run, Ok(&data(&config())), &late).unwrap();
    assert!(report.missing.unwrap().contains("too long"));
}

#[test]
fn what_is_not_a_run_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| Run::open(path).unwrap_err().to_string();
    assert!(error(folder.path()).contains("it has no checkpoints"));
    assert!(error(&folder.path().join("none")).contains("there is no such directory"));
    train(&mut new_trainer(), folder.path(), None);
    let last = folder.path().join(CheckpointDir::LAST);
    assert!(error(&last).contains("is a file; expected the directory of a run"));
    let bytes = std::fs::read(&last).unwrap();
    // The version follows eight bytes.
    let newer = [&bytes[..8], &99u32.to_le_bytes(), &bytes[12..]].concat();
    std::fs::write(&last, newer).unwrap();
    let e = error(&last.with_file_name(""));
    assert!(e.contains("version 99") && e.contains("last.ckpt"), "{e}");
    std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    assert!(error(folder.path()).contains("last.ckpt"));
    // The best epoch alone is a run, too; a best epoch that cannot be read is left out.
    std::fs::remove_file(&last).unwrap();
    let run = Run::open(folder.path()).unwrap();
    assert!(run.notes[0].contains("There is no last.ckpt"), "{:?}", run.notes);
    std::fs::write(&last, &bytes).unwrap();
    std::fs::write(folder.path().join(CheckpointDir::BEST), "x").unwrap();
    let run = Run::open(folder.path()).unwrap();
    assert!(run.best.is_none() && run.notes[0].contains("best.ckpt cannot be read"), "{:?}", run.notes);
}

/// Images of one color, of classes with the given names.
#[derive(Debug)]
struct Plain {
    labels: Vec<u32>,
    names: Vec<String>,
}

impl Dataset for Plain {
    fn name(&self) -> &str {
        "plain"
    }
    fn channels(&self) -> usize {
        3
    }
    fn size(&self) -> Option<(usize, usize)> {
        Some((4, 4))
    }
    fn labels(&self) -> &[u32] {
        &self.labels
    }
    fn class_names(&self) -> &[String] {
        &self.names
    }
    fn read(&self, i: usize, image: &mut ByteImage) -> neocog_base::Result<()> {
        image.reset(4, 4, 3).fill((i * 40) as u8);
        Ok(())
    }
}

/// Trains a linear network for an epoch on images of `names.len()` classes; returns its report.
fn report_of(names: Vec<String>) -> String {
    let classes = names.len();
    let labels = (0..2 * classes as u32).map(|i| i % classes as u32).collect();
    let plain: Arc<dyn Dataset> = Arc::new(Plain { labels, names });
    let split = Split::new(Arc::clone(&plain), Arc::clone(&plain));
    let spec: LayerSpec =
        Sequential::new().with("<b>flat</b>", Flatten::default()).with("fc", Linear::new(48, classes)).into();
    let config = config().with_epochs(1);
    let mut trainer = Trainer::with_spec(config, spec, [3, 4, 4], &*plain, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = CheckpointDir::create(folder.path()).unwrap();
    trainer.fit(&split, Some(&dir), &mut NoProgress, &AtomicBool::new(false)).unwrap();
    let run = Run::open(folder.path()).unwrap();
    render(&run, Ok(&split), &ReportOptions::new()).unwrap().html
}

#[test]
fn names_are_text() {
    let names = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "a & b"];
    let page = report_of(names.map(String::from).to_vec());
    assert_self_contained(&page.replace("onerror=alert", ""));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("a &amp; b"), "{page}");
    assert!(!page.contains("<img src=x") && !page.contains("<b>flat"), "{page}");
    assert_eq!(
        page.matches("<img ").count(),
        6 + page.split("Wrong predictions").nth(1).unwrap().matches("<img ").count()
    );
}

#[test]
fn with_many_classes_the_confusion_matrix_is_an_image() {
    let page = report_of((0..40).map(|i| format!("class-{i}")).collect());
    assert!(page.contains("Most frequent confusions") && page.contains("Confusion matrix of 40 classes"));
    assert!(!page.contains("class=\"confusion\""));
    assert_self_contained(&page);
}
