//! Runs on disk: their directories, signals, pipes and limits, and what a resume needs to be the same run.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod folder;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use folder::{Folder, NEOCOG, texts};
use neocog_base::testing::heed_signals;

/// A run of an epoch.
const SHORT: &str = "train lenet --limit 64 --epochs 1";
/// A run that does not end before it is stopped.
const LONG: &str = "train lenet --epochs 100000";

impl Folder {
    /// Runs a line of `sh`, in which `$N` is the program.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("N", NEOCOG).current_dir(self.0.path());
        command
    }

    /// The number of finished epochs of a checkpoint.
    fn epochs(&self, checkpoint: &str) -> u64 {
        let (text, _) = self.success(&format!("eval {checkpoint} --limit 1"));
        let after = text.split_once(" after ").unwrap().1;
        after.split_once(" epoch").unwrap().0.parse().unwrap()
    }
}

/// A training that prints its epochs; it is killed when the value is dropped.
struct Running {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let command = heed_signals(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    /// Waits until an epoch is finished; returns its line.
    fn epoch(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        assert!(line.starts_with("epoch "), "{line}");
        line
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(status.unwrap().success());
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end; returns the exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < Duration::from_secs(120), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_second_run_does_not_replace_the_first() {
    let folder = Folder::new();
    folder.success(SHORT);
    let first = fs::read(folder.path("runs/lenet-digits/best.ckpt")).unwrap();
    let (stdout, stderr) = folder.success(&format!("{SHORT} --seed 1"));
    assert!(stdout.ends_with("checkpoints in runs/lenet-digits-2\n"), "{stdout}");
    assert!(
        stderr.contains("runs/lenet-digits exists: writing checkpoints to runs/lenet-digits-2"),
        "{stderr}"
    );
    assert_eq!(fs::read(folder.path("runs/lenet-digits/best.ckpt")).unwrap(), first);

    let error = folder.error(&format!("{SHORT} --seed 1 --out runs/lenet-digits"));
    assert!(
        error.contains("holds the checkpoints of another run") && error.contains("--overwrite"),
        "{error}"
    );
    assert_eq!(fs::read(folder.path("runs/lenet-digits/best.ckpt")).unwrap(), first);
    folder.success(&format!("{SHORT} --seed 1 --overwrite"));
    assert_ne!(fs::read(folder.path("runs/lenet-digits/best.ckpt")).unwrap(), first);

    // A resumed run goes on in its own directory, however that is spelled, and elsewhere only if that is free.
    let resume = "train --resume runs/lenet-digits/last.ckpt --epochs";
    folder.success(&format!("{resume} 2"));
    folder.success(&format!("{resume} 3 --out runs/../runs/lenet-digits/"));
    assert_eq!(folder.epochs("runs/lenet-digits/last.ckpt"), 3);
    let error = folder.error(&format!("{resume} 4 --out runs/lenet-digits-2"));
    assert!(error.contains("--overwrite"), "{error}");
    folder.success(&format!("{resume} 4 --out elsewhere"));
    assert!(folder.path("elsewhere/best.ckpt").is_file());
    folder.success(&format!("{resume} 4 --out runs/lenet-digits-2 --overwrite"));
    assert_eq!(folder.epochs("runs/lenet-digits-2/last.ckpt"), 4);
    assert!(!folder.path("no").exists());
    assert!(folder.error("train --resume no/last.ckpt").contains("cannot read the checkpoint"));
    assert!(!folder.path("no").exists());
}

#[test]
fn two_runs_at_once_do_not_share_a_directory() {
    let folder = Folder::new();
    let mut first = Running::start(folder.command(&format!("{LONG} --out run")));
    first.epoch();
    let process = format!("process {} on ", first.child.id());
    for command in [
        format!("{SHORT} --out run"),
        format!("{SHORT} --out run --overwrite"),
        "train --resume run/last.ckpt".into(),
    ] {
        let error = folder.error(&command);
        assert!(error.contains("another run writes to the directory run: "), "{error}");
        assert!(error.contains(&process) && error.contains(" since 20"), "{error}");
    }
    first.epoch();
    // A killed run leaves no lock, and what it leaves of a temporary file is removed.
    first.signal("KILL");
    first.end();
    fs::write(folder.path("run/.last.ckpt.1-0.neocog.part"), "half").unwrap();
    fs::write(folder.path("run/.last.ckpt.part"), "half").unwrap();
    let mut resumed = Running::start(folder.command("train --resume run/last.ckpt"));
    resumed.epoch();
    assert!(!folder.path("run/.last.ckpt.1-0.neocog.part").exists());
    assert!(!folder.path("run/.last.ckpt.part").exists());
}

#[test]
fn ignored_signals_stay_ignored() {
    let folder = Folder::new();
    let line = format!("trap '' HUP INT; exec \"$N\" {LONG} --out run");
    let mut run = Running::start(folder.shell(&line));
    run.epoch();
    run.signal("HUP");
    run.signal("INT");
    for _ in 0..3 {
        run.epoch();
    }
    assert!(run.is_running());
    run.signal("TERM");
    let (code, stderr) = run.end();
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.contains("resume with: "), "{stderr}");
}

#[test]
fn further_signals_do_not_lose_what_the_first_saves() {
    let folder = Folder::new();
    for (i, signals) in [&["INT", "INT", "INT"][..], &["HUP"], &["TERM", "INT"]].into_iter().enumerate() {
        let mut run = Running::start(
            folder.command(&format!("train lenet_bn --batch 1437 --epochs 100000 --out run{i}")),
        );
        // The signal handler is there before the configuration is printed.
        let mut stderr = BufReader::new(run.child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("lenet_bn on digits") {
            assert!(stderr.read_line(&mut text).unwrap() > 0, "{text}");
        }
        signals.iter().for_each(|signal| run.signal(signal));
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(run.child.wait().unwrap().code(), Some(130), "{text}");
        assert!(text.contains("stopping after this batch"), "{text}");
        assert!(folder.path(&format!("run{i}/last.ckpt")).is_file(), "{text}");
        let command = text.lines().find_map(|line| line.split_once("resume with: ")).unwrap().1;
        assert_eq!(command, format!("{NEOCOG} train --resume run{i}/last.ckpt"));
    }
}

#[test]
fn the_printed_command_is_whole() {
    let folder = Folder::new();
    fs::create_dir(folder.path("my data")).unwrap();
    let line = format!(
        "NEOCOG_SIMD=portable exec \"$N\" --threads 1 {LONG} --data-dir 'my data' --workers 2 --save-every 90s --json --out 'it'\\''s'"
    );
    let mut run = Running::start(folder.shell(&line));
    let mut json = String::new();
    run.stdout.as_mut().unwrap().read_line(&mut json).unwrap();
    assert!(json.starts_with("{\"epoch\":1,"), "{json}");
    run.signal("INT");
    let (code, stderr) = run.end();
    assert_eq!(code, Some(130), "{stderr}");
    let command = stderr.lines().find_map(|line| line.split_once("resume with: ")).unwrap().1;
    assert!(command.starts_with("NEOCOG_SIMD=portable "), "{command}");
    let one_core = std::thread::available_parallelism().unwrap().get() == 1;
    let threads = if one_core { "" } else { " --threads 1" };
    let expected = format!(
        " train --resume 'it'\\''s/last.ckpt' --data-dir 'my data' --workers 2 --save-every 1m30s{threads} --json"
    );
    assert!(command.ends_with(&expected), "{command}");
    // It can be pasted.
    let mut resumed = Running::start(folder.shell(&format!("exec env {command}")));
    json.clear();
    resumed.stdout.as_mut().unwrap().read_line(&mut json).unwrap();
    assert!(json.starts_with("{\"epoch\":"), "{json}");
}

#[test]
fn a_training_goes_on_when_its_reader_goes_away() {
    let folder = Folder::new();
    let mut run = Running::start(folder.command("train lenet --limit 64 --epochs 30 --out run"));
    run.epoch();
    drop(run.stdout.take());
    let (code, stderr) = run.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("going on without output").count(), 1, "{stderr}");
    assert_eq!(folder.epochs("run/last.ckpt"), 30);
    // A command that only prints ends.
    let output =
        folder.shell("\"$N\" summary lenet | true; \"$N\" eval run/last.ckpt --json > /dev/full").output();
    assert!(texts(&output.unwrap(), 1).1.contains("cannot write to standard output"));
    for help in ["--help", "train --help", "--version"] {
        let output = folder.shell(&format!("\"$N\" {help} | true; \"$N\" {help} > /dev/full")).output();
        assert!(texts(&output.unwrap(), 1).1.contains("cannot write to standard output"), "{help}");
    }
}

#[test]
fn the_limit_of_file_sizes_is_an_error() {
    let folder = Folder::new();
    let output = folder.shell(&format!("ulimit -f 16; exec \"$N\" {SHORT} --out run")).output().unwrap();
    let (_, stderr) = texts(&output, 1);
    assert!(
        stderr.contains("error: cannot write the checkpoint run/") && stderr.contains("too large"),
        "{stderr}"
    );
    let left = fs::read_dir(folder.path("run")).unwrap().map(|e| e.unwrap().file_name());
    let mut left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".lock", "config.toml", "log.jsonl"]);
}

#[test]
fn instruction_sets_are_checked() {
    let folder = Folder::new();
    let run =
        |value: &str, arguments: &str| folder.command(arguments).env("NEOCOG_SIMD", value).output().unwrap();
    let (_, error) = texts(&run("nonsense", SHORT), 2);
    let expected = "error: NEOCOG_SIMD=nonsense: there is no such instruction set; valid here: ";
    assert!(error.starts_with(expected) && error.contains("portable\n\nFor more information"), "{error}");
    texts(&run("", &format!("{SHORT} --out fastest")), 0);
    texts(&run("portable", &format!("{SHORT} --out portable")), 0);
    let resume = "train --resume portable/last.ckpt --epochs 2";
    texts(&run("portable", resume), 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let resume = "train --resume portable/last.ckpt --epochs 3";
        let (_, error) = texts(&run("avx2", resume), 1);
        assert!(error.contains("instruction set (NEOCOG_SIMD): portable then, avx2+fma now"), "{error}");
        assert!(error.contains("--allow-different"), "{error}");
        let (_, stderr) = texts(&run("avx2", &format!("{resume} --allow-different")), 0);
        assert!(stderr.contains("going on although different: instruction set"), "{stderr}");
    }
}

/// Writes MNIST's four files with images of one value.
fn write_mnist(root: &Path, value: u8) {
    fs::create_dir_all(root.join("mnist")).unwrap();
    for (part, count) in [("train", 20u8), ("t10k", 10)] {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28];
        images.extend(vec![value; usize::from(count) * 784]);
        let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
        labels.extend((0..count).map(|i| i % 10));
        fs::write(root.join(format!("mnist/{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(root.join(format!("mnist/{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn other_data_are_noticed() {
    let folder = Folder::new();
    write_mnist(&folder.path("a"), 7);
    write_mnist(&folder.path("b"), 8);
    let (_, stderr) = folder.success("train lenet --data mnist --data-dir a --epochs 1 --out run");
    let warning = "warning: the files in a/mnist are not those of mnist: the training images have an unknown checksum, ";
    assert!(stderr.contains(warning), "{stderr}");
    assert!(folder.success("eval run/last.ckpt --data-dir a").1.contains(warning));
    let resume = "train --resume run/last.ckpt --epochs 2 --data-dir";
    let error = folder.error(&format!("{resume} b"));
    assert!(error.contains("data (SHA-256): ") && error.contains("--allow-different"), "{error}");
    folder.success(&format!("{resume} a"));
    folder.success("train --resume run/last.ckpt --epochs 3 --data-dir b --allow-different");
}

#[test]
fn another_number_of_epochs_stretches_the_schedule_with_a_note() {
    let folder = Folder::new();
    folder.success(&format!("{SHORT} --schedule cosine --lr 0.01 --out run"));
    let (_, stderr) = folder.success("train --resume run/last.ckpt --epochs 2");
    assert!(
        stderr.contains(
            "the schedule (cosine decay to 0) now spans 2 epochs instead of 1: the learning rate was "
        ),
        "{stderr}"
    );
    assert!(stderr.contains("and is 5.000e-3 in the next one\n"), "{stderr}");
    let (_, stderr) = folder.success("train --resume run/last.ckpt --out other");
    assert!(!stderr.contains("the schedule ("), "{stderr}");
}

#[test]
fn eval_uses_all_images_unless_limited() {
    let folder = Folder::new();
    folder.success(&format!("{SHORT} --out run"));
    let (stdout, _) = folder.success("eval run/last.ckpt");
    assert!(stdout.contains(" on 360 images of digits (test)"), "{stdout}");
    let (stdout, _) = folder.success("eval run/last.ckpt --limit 64 --part train");
    assert!(stdout.contains(" on 64 images of digits (train)"), "{stdout}");
}

#[test]
fn one_bad_image_does_not_end_a_list() {
    let folder = Folder::new();
    folder.success(&format!("{SHORT} --out run"));
    image::GrayImage::new(28, 28).save(folder.path("good.png")).unwrap();
    fs::write(folder.path("bad.png"), "no image").unwrap();
    let output = folder.run("predict run/last.ckpt good.png bad.png good.png --picture sheet.png");
    let (stdout, stderr) = texts(&output, 1);
    assert_eq!(stdout.lines().filter(|line| line.starts_with("good.png: ")).count(), 2, "{stdout}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: bad.png: not an image in JPEG, PNG, "), "{stderr}");
    assert!(image::open(folder.path("sheet.png")).is_ok());
    let error = folder.error("predict run/last.ckpt bad.png none.png --picture none.png");
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(!folder.path("none.png").exists());
    let good = fs::read(folder.path("good.png")).unwrap();
    assert!(
        folder
            .error("predict run/last.ckpt good.png --picture good.png")
            .contains("is the file that is read")
    );
    assert_eq!(fs::read(folder.path("good.png")).unwrap(), good);
}

#[test]
fn outputs_do_not_replace_inputs_or_devices() {
    let folder = Folder::new();
    folder.success(&format!("{SHORT} --out run"));
    let checkpoint = fs::read(folder.path("run/last.ckpt")).unwrap();
    std::os::unix::fs::symlink("run/last.ckpt", folder.path("link")).unwrap();
    for to in ["run/last.ckpt", "run/../run/last.ckpt", "link"] {
        let error = folder.error(&format!("export run/last.ckpt --to {to}"));
        assert!(error.contains("is the file that is read; choose another output file"), "{error}");
        assert_eq!(fs::read(folder.path("run/last.ckpt")).unwrap(), checkpoint);
    }
    folder.success("export run/last.ckpt --to w.safetensors");
    let weights = fs::read(folder.path("w.safetensors")).unwrap();
    let error = folder.error("import w.safetensors --network lenet --data digits --to w.safetensors");
    assert!(error.contains("is the file that is read"), "{error}");
    assert_eq!(fs::read(folder.path("w.safetensors")).unwrap(), weights);

    // Through a FIFO comes the same file; it stays a FIFO.
    let line = "mkfifo fifo; cat fifo > through & \"$N\" export run/last.ckpt --to fifo; test -p fifo || { kill $!; exit 1; }; wait $!";
    texts(&folder.shell(line).output().unwrap(), 0);
    assert_eq!(fs::read(folder.path("through")).unwrap(), weights);
    let line = "\"$N\" export run/last.ckpt --to /dev/stdout | head -c 100 > part; test -c /dev/null && \"$N\" export run/last.ckpt --to /dev/null";
    texts(&folder.shell(line).output().unwrap(), 0);
    assert_eq!(fs::read(folder.path("part")).unwrap(), weights[..100]);
    let error = folder.error("export run/last.ckpt --to run");
    assert!(
        error.starts_with("error: cannot write to run: it is a directory; add the name of a file"),
        "{error}"
    );

    // Checkpoints keep permissions and links.
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir(folder.path("disk")).unwrap();
    fs::rename(folder.path("run/best.ckpt"), folder.path("disk/best.ckpt")).unwrap();
    std::os::unix::fs::symlink("../disk/best.ckpt", folder.path("run/best.ckpt")).unwrap();
    fs::set_permissions(folder.path("run/last.ckpt"), fs::Permissions::from_mode(0o600)).unwrap();
    folder.success(&format!("{SHORT} --out run --overwrite"));
    folder.success("train --resume run/last.ckpt --epochs 2");
    assert!(fs::symlink_metadata(folder.path("run/best.ckpt")).unwrap().is_symlink());
    assert_eq!(fs::metadata(folder.path("run/last.ckpt")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn files_may_have_any_name() {
    let folder = Folder::new();
    let network = r#"{"kind": "Sequential", "layers": [{"name": "0", "layer": {"kind": "Flatten"}},
        {"name": "1", "layer": {"kind": "Linear", "in_features": 64, "out_features": 10}}]}"#;
    for name in ["my net.json", "-x.json", "..json", "netz-ü (2).json", "a\nb.json"] {
        fs::write(folder.path(name), network).unwrap();
        let mut command = folder.command("summary --input 1x8x8 --json");
        let (stdout, _) = texts(&command.arg(format!("--spec={name}")).output().unwrap(), 0);
        assert!(stdout.contains("\"parameters\":650"), "{name}: {stdout}");
    }
    // Only images of 8x8 have 64 pixels.
    fs::write(folder.path("net.json"), network).unwrap();
    let (stdout, stderr) = folder.success("summary --spec net.json --json");
    assert!(stdout.contains("\"input\":[1,1,8,8]") && stdout.contains("\"parameters\":650"), "{stdout}");
    assert!(stderr.contains("only 1x8x8 fits"), "{stderr}");
    fs::write(
        folder.path("net.json"),
        r#"{"kind": "Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3}"#,
    )
    .unwrap();
    assert!(folder.error("summary --spec net.json").contains("use --input"));
    // With byte order marks, as editors on Windows write them.
    let utf16: Vec<u16> = network.encode_utf16().collect();
    for bytes in [
        [b"\xef\xbb\xbf", network.as_bytes()].concat(),
        [vec![0xff, 0xfe], utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect()].concat(),
        [vec![0xfe, 0xff], utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect()].concat(),
    ] {
        fs::write(folder.path("marked.json"), &bytes).unwrap();
        let (stdout, _) = folder.success("summary --input 1x8x8 --json --spec marked.json");
        assert!(stdout.contains("\"parameters\":650"), "{stdout}");
        fs::write(folder.path("marked.json"), &bytes[..bytes.len() - 1]).unwrap();
        let error = folder.error("summary --input 1x8x8 --spec marked.json");
        assert!(error.contains("marked.json: not a network in JSON"), "{error}");
    }
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"\xff net.json");
    if fs::write(folder.0.path().join(name), network).is_ok() {
        let mut command = folder.command("train --input 1x8x8 --limit 16 --epochs 1 --spec");
        texts(&command.arg(name).output().unwrap(), 0);
        assert!(folder.path("runs/__net-digits/last.ckpt").is_file());
    }
}

/// A configuration file: the command line wins, and the directory of a run has the whole of it.
#[test]
fn a_run_is_repeated_from_its_configuration() {
    let folder = Folder::new();
    let options = "--limit 64 --epochs 2 --batch 16 --accumulate 2 --lr 0.01 --schedule one-cycle --label-smoothing 0.1 --mixup --ema \
                   --nesterov=true --optimizer sgd --momentum 0.9 --log-every 1";
    let error = folder.error("train lenet --limit 64 --epochs 1 --optimizer adam --nesterov");
    assert!(error.contains("adam has no option --nesterov; it has --betas"), "{error}");
    let (first, stderr) =
        folder.success(&format!("train lenet {options} --out first --write-config run.toml"));
    assert!(first.contains(", averaged loss "), "{first}");
    assert!(
        stderr.contains("label smoothing 0.1, mixup 0.2, moving average of the weights with decay 0.999"),
        "{stderr}"
    );
    let losses = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("epoch "));
        lines.map(|line| line.split(", ").take(2).collect::<Vec<_>>().join(", ")).collect()
    };
    for config in ["run.toml", "first/config.toml"] {
        let (again, _) = folder.success(&format!("train --config {config} --out again --overwrite"));
        assert_eq!(losses(&again), losses(&first), "{config}");
    }
    let text = folder.read("first/config.toml");
    for line in [
        "network = \"lenet\"",
        "mixup = 0.2",
        "label-smoothing = 0.1",
        "data-sha256 = ",
        "version = ",
        "seed = 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let log = folder.read("first/log.jsonl");
    assert_eq!((log.lines().count(), log.matches("\"kind\":\"epoch\"").count()), (6, 2), "{log}");
    let (other, _) = folder.success("train --config run.toml --seed 1 --epochs 1 --out other");
    assert_eq!(other.lines().filter(|line| line.starts_with("epoch 1/1")).count(), 1, "{other}");
    // Another way to divide the batch than the file's.
    let (_, stderr) = folder.success("train --config run.toml --shards 1 --epochs 1 --out whole");
    assert!(stderr.contains("batch 16, sgd"), "{stderr}");
    fs::write(folder.path("wrong.toml"), "batchs = 3\n").unwrap();
    let error = folder.error("train --config wrong.toml");
    assert!(
        error.contains("wrong.toml: there is no option of train named `batchs`; did you mean `batch`"),
        "{error}"
    );
    fs::write(folder.path("wrong.toml"), "lr = 'abc'\n").unwrap();
    let error = folder.error("train --config wrong.toml");
    assert!(error.contains("wrong.toml: invalid value 'abc' for '--lr"), "{error}");
    let (_, stderr) = folder.success("train lenet --epochs 100000 --time-budget 1s --out short");
    assert!(stderr.contains("the time is over: stopped in epoch"), "{stderr}");
}
