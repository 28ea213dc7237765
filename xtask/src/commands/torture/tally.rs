//! The results of all trials.

/// What was survived, and what was not.
#[derive(Default)]
pub struct Tally {
    pub kills: u64,
    /// Kills after a temporary file was opened and before it was renamed.
    pub kills_within: u64,
    pub signals: u64,
    pub full_disks: u64,
    pub memory_limits: u64,
    pub pairs: u64,
    pub servers: u64,
    pub finished: u64,
    pub lost: Vec<String>,
    pub different: Vec<String>,
    pub best_wrong: Vec<String>,
    pub other: Vec<String>,
    pub skipped: Vec<String>,
}

impl Tally {
    /// Descriptions of all that was not survived.
    pub fn failures(&self) -> impl Iterator<Item = &String> {
        self.lost.iter().chain(&self.different).chain(&self.best_wrong).chain(&self.other)
    }
}
