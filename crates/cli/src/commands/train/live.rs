//! The live view of a training: curves, progress and speed on the whole terminal.
//!
//! It is drawn by a thread of its own, on the terminal's alternate screen. What the program prints meanwhile is shown in the view, and
//! written to the terminal when the view ends, however it does: at the end of the run, by an error, a signal or a panic.

mod curves;
mod draw;
mod screen;
mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use neocog_tensor::Result;
use neocog_train::{BatchReport, EpochReport, Trainer};

use crate::output;
use screen::Screen;
use view::View;

/// The interval of redrawing.
const INTERVAL: Duration = Duration::from_millis(250);

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
