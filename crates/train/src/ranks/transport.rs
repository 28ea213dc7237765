//! The transport: what connects two ranks.

use neocog_tensor::Result;

/// Connects the ranks. One thread uses it, the one that created it.
pub trait Transport {
    /// Returns the number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Returns the name of the machine that this rank runs on, if it is known.
    fn host(&self) -> Option<String> {
        None
    }

    /// Sends to another rank while receiving from it. That rank calls this function too, with the lengths exchanged.
    ///
    /// # Errors
    /// When the connection fails.
    fn exchange(&mut self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()>;

    /// Ends all ranks with an exit code.
    fn abort(&mut self, code: i32) -> !;
}
