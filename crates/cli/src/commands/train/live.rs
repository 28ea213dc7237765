//! The live view of a training: curves, progress and speed on the whole terminal.
//!
//! It is drawn by a thread of its own, on the terminal's alternate screen. What the program prints meanwhile is shown in the view, and
//! written to the terminal when the view ends, however it does: at the end of the run, by an error, a signal or a panic.

mod curves;
mod draw;
mod screen;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neocog_tensor::Result;
use neocog_train::{BatchReport, EpochReport, Trainer};

use crate::output;
use curves::Curve;
use screen::Screen;

/// The interval of redrawing.
const INTERVAL: Duration = Duration::from_millis(250);

/// Number of messages that are kept for the view.
const MESSAGES: usize = 50;

/// What the view shows.
#[derive(Debug)]
pub struct View {
    /// "lenet on digits".
    pub title: String,
    pub epochs: u64,
    /// The part that is evaluated after each epoch.
    pub part: String,
    pub batch: Option<BatchReport>,
    pub history: Vec<EpochReport>,
    /// Points of the current run within its epochs: the mean loss and accuracy since the point before.
    pub train_loss: Curve,
    pub train_acc: Curve,
    pub started: Instant,
    /// Steps at the start of this call, of a run that is resumed.
    pub steps_before: u64,
    pub folder: PathBuf,
    /// What was printed, the latest last.
    pub messages: Vec<String>,
    is_over: bool,
}

impl View {
    fn new(trainer: &Trainer, part: impl ToString, folder: PathBuf) -> Self {
        let config = trainer.config();
        View {
            title: format!("{} on {}", config.network, config.data),
            epochs: config.epochs,
            part: part.to_string(),
            batch: None,
            history: trainer.history().to_vec(),
            train_loss: Curve::default(),
            train_acc: Curve::default(),
            started: Instant::now(),
            steps_before: trainer.position().step,
            folder,
            messages: Vec::new(),
            is_over: false,
        }
    }

    fn add_batch(&mut self, report: &BatchReport) {
        let at = (report.epoch - 1) as f64 + report.batch as f64 / report.batches.max(1) as f64;
        let before = self.batch.filter(|before| before.epoch == report.epoch).map(|before| before.sums);
        let before = before.unwrap_or_default();
        let images = report.sums.images.saturating_sub(before.images);
        if images > 0 {
            let mean = |sum: f64| sum / images as f64;
            self.train_loss.push(at, mean(report.sums.loss - before.loss), images);
            self.train_acc.push(at, mean(report.sums.correct.saturating_sub(before.correct) as f64), images);
        }
        self.batch = Some(*report);
    }

    fn add_message(&mut self, text: &str) {
        self.messages.extend(text.lines().map(str::to_string));
        let surplus = self.messages.len().saturating_sub(MESSAGES);
        self.messages.drain(..surplus);
    }
}

/// The view of a run, until it is dropped.
pub struct Live {
    view: Arc<Mutex<View>>,
    drawing: Option<JoinHandle<()>>,
    _diversion: output::Diversion,
}

impl Live {
    /// Opens the view. `None` where standard error is not a terminal on which this process is in the foreground.
    ///
    /// # Errors
    /// When the terminal cannot be set.
    pub fn open(trainer: &Trainer, part: impl ToString, folder: PathBuf) -> Result<Option<Self>> {
        let Some(screen) = Screen::open()? else { return Ok(None) };
        let view = Arc::new(Mutex::new(View::new(trainer, part, folder)));
        let (shown, drawn) = (Arc::clone(&view), Arc::clone(&view));
        let diversion = output::divert(move |text| {
            let is_shown = screen::is_open();
            if is_shown {
                lock(&shown).add_message(text);
            }
            is_shown
        });
        let drawing = std::thread::Builder::new().name("live view".into()).spawn(move || {
            let mut screen = screen;
            loop {
                // Drawn without the lock, so that no batch waits for the terminal.
                let content = draw::Content::new(&lock(&drawn));
                if screen.draw(|frame| content.render(frame)).is_err() || lock(&drawn).is_over {
                    return;
                }
                std::thread::park_timeout(INTERVAL);
            }
        });
        let drawing = drawing.map_err(|e| neocog_tensor::Error::io("cannot start the live view", e))?;
        Ok(Some(Live { view, drawing: Some(drawing), _diversion: diversion }))
    }

    /// Takes the metrics of a batch.
    pub fn batch(&mut self, report: &BatchReport) {
        lock(&self.view).add_batch(report);
    }

    /// Takes the metrics of an epoch.
    pub fn epoch(&mut self, report: &EpochReport) {
        lock(&self.view).history.push(*report);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        lock(&self.view).is_over = true;
        if let Some(drawing) = self.drawing.take() {
            drawing.thread().unpark();
            // It ends the screen; a panic in it has been reported.
            let _ = drawing.join();
        }
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}
