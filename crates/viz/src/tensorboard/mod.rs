//! Event files of TensorBoard: scalars, histograms, images, text and hyperparameters.

mod histogram;
mod messages;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use image::RgbImage;
use neocog_base::file::check_output_dir;
use neocog_base::{Error, Result};
use prost::Message as _;

use crate::png::encode;
use messages::{
    Event, Experiment, HParamInfo, HParams, HParamsPluginData, Kind, MetricInfo, MetricName, PluginData,
    ProtoValue, SessionEnd, SessionLog, SessionStart, Summary, SummaryMetadata, SummaryValue, TensorProto,
    Value, What,
};

pub use histogram::Histogram;

/// The value of a hyperparameter.
#[derive(Clone, Debug, PartialEq)]
pub enum HParam {
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// Yes or no.
    Bool(bool),
}

/// Writes an event file, which TensorBoard shows while it grows. Each event is written at once; a program that is killed leaves at
/// most one unfinished record, which readers ignore.
///
/// ```
/// use neocog_viz::tensorboard::EventWriter;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let dir = folder.path();
/// let mut writer = EventWriter::create(dir, None)?;
/// writer.scalars(1, &[("loss/train", 2.3), ("loss/test", 2.2)])?;
/// # Ok::<(), neocog_base::Error>(())
/// ```
pub struct EventWriter {
    file: File,
    path: PathBuf,
    is_first: bool,
}

impl EventWriter {
    /// Creates a file in `dir`, which is created too; its name sorts behind those of the event files that are there. With
    /// `resume_at`, readers drop what earlier files have of that step and later ones: what a killed run wrote after its last
    /// checkpoint.
    ///
    /// # Errors
    /// `InvalidArgument` if `dir` is a file; `Io` when the file cannot be written.
    pub fn create(dir: &Path, resume_at: Option<u64>) -> Result<Self> {
        check_output_dir(dir)?;
        let cannot = |e| Error::io(format!("cannot write event files to the directory {}", dir.display()), e);
        fs::create_dir_all(dir).map_err(cannot)?;
        let host = gethostname::gethostname()
            .to_string_lossy()
            .replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        let (mut second, mut is_first) = (seconds() as u64, true);
        for entry in fs::read_dir(dir).map_err(cannot)?.flatten() {
            if let Some(other) = second_in_name(&entry.file_name().to_string_lossy()) {
                (second, is_first) = (second.max(other.saturating_add(1)), false);
            }
        }
        let (file, path) = loop {
            let name = format!("events.out.tfevents.{second:010}.{host}.{}.neocog", std::process::id());
            let path = dir.join(name);
            match File::options().append(true).create_new(true).open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => second += 1,
                file => break (file.map_err(cannot)?, path),
            }
        };
        let mut writer = EventWriter { file, path, is_first };
        writer.event(0, What::FileVersion("brain.Event:2".into()))?;
        // A new run takes the place of an earlier one in the directory.
        if let Some(step) = resume_at.or((!is_first).then_some(0)) {
            const START: i32 = 1;
            writer.event(step, What::SessionLog(SessionLog { status: START }))?;
        }
        Ok(writer)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there was no event file in the directory.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Writes values of one step. A tag such as `loss/train` is shown in the group `loss`.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value = |(tag, value): &(&str, f64)| summary_value(tag, None, Value::Scalar(*value as f32));
        self.summary(step, values.iter().map(value).collect())
    }

    /// Writes a histogram.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn histogram(&mut self, step: u64, tag: &str, histogram: Histogram) -> Result<()> {
        self.summary(step, vec![summary_value(tag, None, Value::Histogram(histogram.0))])
    }

    /// Writes an image.
    ///
    /// # Errors
    /// `Io` when it cannot be encoded, or the file cannot be written.
    pub fn image(&mut self, step: u64, tag: &str, image: &RgbImage) -> Result<()> {
        let image = messages::Image {
            height: image.height() as i32,
            width: image.width() as i32,
            colorspace: 3,
            encoded_image_string: encode(image)?,
        };
        self.summary(step, vec![summary_value(tag, None, Value::Image(image))])
    }

    /// Writes text in Markdown.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        let value = Value::Tensor(TensorProto::text(text));
        self.summary(step, vec![summary_value(tag, Some(plugin("text", Vec::new())), value)])
    }

    /// Writes the hyperparameters of the run, and the tags of the scalars that it is compared by.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn hparams(&mut self, hparams: &[(&str, HParam)], metrics: &[&str]) -> Result<()> {
        let info = |(name, value): &(&str, HParam)| HParamInfo {
            name: (*name).to_string(),
            data_type: match value {
                HParam::Text(_) => 1,
                HParam::Bool(_) => 2,
                HParam::Number(_) => 3,
            },
        };
        let metric = |tag: &&str| MetricInfo { name: Some(MetricName { tag: (*tag).to_string() }) };
        self.hparams_event(
            0,
            "_hparams_/experiment",
            HParams::Experiment(Experiment {
                hparam_infos: hparams.iter().map(info).collect(),
                metric_infos: metrics.iter().map(metric).collect(),
            }),
        )?;
        let value = |(name, value): &(&str, HParam)| {
            let kind = match value {
                HParam::Text(text) => Kind::String(text.clone()),
                HParam::Bool(value) => Kind::Bool(*value),
                HParam::Number(value) => Kind::Number(*value),
            };
            ((*name).to_string(), ProtoValue { kind: Some(kind) })
        };
        let hparams: BTreeMap<_, _> = hparams.iter().map(value).collect();
        let start = SessionStart { hparams, start_time_secs: seconds() };
        self.hparams_event(0, "_hparams_/session_start_info", HParams::SessionStart(start))
    }

    /// Writes that the run of the hyperparameters has finished after `step`.
    ///
    /// # Errors
    /// `Io` when the file cannot be written.
    pub fn finish(&mut self, step: u64) -> Result<()> {
        let end = SessionEnd { status: 1, end_time_secs: seconds() };
        self.hparams_event(step, "_hparams_/session_end_info", HParams::SessionEnd(end))
    }

    fn hparams_event(&mut self, step: u64, tag: &str, data: HParams) -> Result<()> {
        let content = HParamsPluginData { version: 0, data: Some(data) }.encode_to_vec();
        let value = Value::Tensor(TensorProto::none());
        self.summary(step, vec![summary_value(tag, Some(plugin("hparams", content)), value)])
    }

    fn summary(&mut self, step: u64, value: Vec<SummaryValue>) -> Result<()> {
        self.event(step, What::Summary(Summary { value }))
    }

    fn event(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time: seconds(), step: step as i64, what: Some(what) };
        record::write(&mut self.file, &event.encode_to_vec())
            .map_err(|e| Error::io(format!("cannot write {}", self.path.display()), e))
    }
}

impl fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

fn summary_value(tag: &str, metadata: Option<SummaryMetadata>, value: Value) -> SummaryValue {
    SummaryValue { tag: tag.to_string(), metadata, value: Some(value) }
}

fn plugin(name: &str, content: Vec<u8>) -> SummaryMetadata {
    SummaryMetadata { plugin_data: Some(PluginData { plugin_name: name.to_string(), content }) }
}

/// Seconds since 1970.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The time in the name of an event file.
fn second_in_name(name: &str) -> Option<u64> {
    name.split_once("tfevents.")?.1.split('.').next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// The events of a file, whose framing is correct.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            events.push(Event::decode(&rest[12..12 + length]).unwrap());
            rest = &rest[12 + length + 4..];
        }
        events
    }

    #[test]
    fn events_are_complete_after_each_call() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&folder.path().join("a/b"), Some(7)).unwrap();
        writer.scalars(7, &[("x", 0.5), ("y", 2.0)]).unwrap();
        let events = read(writer.path());
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!((events[1].step, &events[1].what), (7, &Some(What::SessionLog(SessionLog { status: 1 }))));
        let Some(What::Summary(summary)) = &events[2].what else { panic!() };
        assert_eq!(summary.value[1], summary_value("y", None, Value::Scalar(2.0)));
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn later_files_sort_behind_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.out.tfevents.9999999990.z.1.0"), "").unwrap();
        let paths = [(); 3].map(|()| EventWriter::create(folder.path(), None).unwrap().path().to_path_buf());
        assert!(paths.is_sorted() && paths[0] != paths[1], "{paths:?}");
        assert!(paths[0].to_string_lossy().contains("tfevents.9999999991."), "{paths:?}");
        let e = EventWriter::create(&paths[0], None).unwrap_err().to_string();
        assert!(e.contains("it is a file, but a directory is needed"), "{e}");
    }
}
