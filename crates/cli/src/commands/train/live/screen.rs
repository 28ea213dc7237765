//! The alternate screen of the terminal.

use std::io::{self, IsTerminal, Stderr};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_tensor::{Error, Result};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::{Frame, Terminal};

/// Whether the alternate screen is on.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The alternate screen, until it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    #[cfg(unix)]
    suspend: std::sync::Arc<AtomicBool>,
}

impl Screen {
    /// Switches to the alternate screen. `None` where standard error is not a terminal on which this process is in the foreground.
    ///
    /// # Errors
    /// When the terminal cannot be set.
    pub fn open() -> Result<Option<Self>> {
        if !is_usable() {
            return Ok(None);
        }
        let cannot = |e| Error::io("cannot open the live view on the terminal", e);
        let terminal = Terminal::new(CrosstermBackend::new(io::stderr())).map_err(cannot)?;
        close_on_panic();
        let screen = Screen {
            terminal,
            #[cfg(unix)]
            suspend: unix::suspend_flag().map_err(cannot)?,
        };
        enter().map_err(cannot)?;
        Ok(Some(screen))
    }

    /// Draws a frame, of the size that the terminal has now.
    ///
    /// # Errors
    /// When the screen was closed by a panic, or the terminal is gone.
    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        #[cfg(unix)]
        if self.suspend.swap(false, Ordering::Relaxed) {
            leave();
            unix::suspend()?;
            enter()?;
            self.terminal.clear()?;
        }
        if !is_open() {
            return Err(io::Error::other("the screen is closed"));
        }
        self.terminal.draw(render).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the alternate screen is on.
pub fn is_open() -> bool {
    IS_OPEN.load(Ordering::Relaxed)
}

fn is_usable() -> bool {
    #[cfg(unix)]
    let is_in_foreground = unix::is_in_foreground();
    #[cfg(not(unix))]
    let is_in_foreground = true;
    io::stderr().is_terminal()
        && is_in_foreground
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn enter() -> io::Result<()> {
    IS_OPEN.store(true, Ordering::Relaxed);
    #[cfg(unix)]
    unix::set_echo(false);
    execute!(io::stderr(), EnterAlternateScreen, Hide)
}

fn leave() {
    if IS_OPEN.swap(false, Ordering::Relaxed) {
        // Nothing can be done about a terminal that is gone.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
        #[cfg(unix)]
        unix::set_echo(true);
    }
}

/// Makes a panic of any thread leave the screen before it prints its message.
fn close_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            print(info);
        }));
    });
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use rustix::process::getpgrp;
    use rustix::stdio::stderr;
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};
    use signal_hook::consts::SIGTSTP;

    /// Whether this process, and not another one of the same terminal, has the terminal.
    pub(super) fn is_in_foreground() -> bool {
        tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp())
    }

    /// Sets whether what is typed appears on the screen. Signals of keys stay.
    pub(super) fn set_echo(echo: bool) {
        if let Ok(mut settings) = tcgetattr(stderr()) {
            settings.local_modes.set(LocalModes::ECHO, echo);
            let _ = tcsetattr(stderr(), OptionalActions::Now, &settings);
        }
    }

    /// Returns a flag that Ctrl-Z sets.
    pub(super) fn suspend_flag() -> io::Result<Arc<AtomicBool>> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTSTP, Arc::clone(&flag))?;
        Ok(flag)
    }

    /// Suspends the process, until `fg`.
    pub(super) fn suspend() -> io::Result<()> {
        signal_hook::low_level::emulate_default_handler(SIGTSTP)
    }
}
