//! What happens to a run.

use std::time::Duration;

use neocog_base::fault::POINTS;
use neocog_base::random::Random;

/// The number of fault points before a file is renamed, the first of [`POINTS`].
const WITHIN: usize = 4;

/// What happens to a run.
pub enum Fault {
    /// In the form of `NEOCOG_TEST_FAULT`.
    Point(String),
    /// A kill or a signal after a time; a second one right behind it.
    Signal {
        name: &'static str,
        after: Duration,
        twice: bool,
    },
    None,
}

impl Fault {
    /// Draws a fault.
    pub fn draw(random: &mut Random) -> Self {
        let below = |random: &mut Random, n: u32| random.next_u32() % n;
        let after = Duration::from_millis(20 + u64::from(below(random, 1500)));
        match below(random, 10) {
            0 => Fault::Signal { name: "KILL", after, twice: false },
            1..=3 => {
                let name = ["INT", "TERM", "HUP"][below(random, 3) as usize];
                Fault::Signal { name, after, twice: below(random, 2) == 1 }
            }
            4 => Fault::Point(format!("full@write:{}", 1 + below(random, 60))),
            _ => {
                // Most within the replacement of a file.
                let points = if below(random, 6) == 0 { &POINTS[WITHIN..] } else { &POINTS[..WITHIN] };
                let point = points[below(random, points.len() as u32) as usize];
                let count = if point == "write" { 1 + below(random, 60) } else { 1 + below(random, 8) };
                Fault::Point(format!("kill@{point}:{count}"))
            }
        }
    }

    /// Whether it is a fault point before a file is renamed.
    pub fn is_within(&self) -> bool {
        matches!(self, Fault::Point(text) if POINTS[..WITHIN].iter().any(|point| text.contains(&format!("@{point}:"))))
    }
}
