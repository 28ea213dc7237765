//! Ranks that are threads of one process.

use std::sync::mpsc::{Receiver, Sender, channel};

use neocog_tensor::{Error, ErrorKind, Result};

use super::transport::Transport;

/// A rank that is a thread.
#[derive(Debug)]
struct InProcess {
    rank: usize,
    /// To each rank.
    senders: Vec<Sender<Vec<u8>>>,
    /// From each rank.
    receivers: Vec<Receiver<Vec<u8>>>,
}

/// Returns the transports of `size` ranks in this process, for [`Ranks::connect`](super::Ranks::connect) in a thread for each.
///
/// ```
/// use neocog_train::ranks::{Ranks, in_process};
///
/// let ranks: Vec<_> = in_process(2)
///     .into_iter()
///     .map(|transport| std::thread::spawn(|| Ranks::connect(|| Ok(transport)).map(|ranks| ranks.rank())))
///     .collect();
/// let ranks: Vec<usize> = ranks.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
/// assert_eq!(ranks, [0, 1]);
/// ```
pub fn in_process(size: usize) -> Vec<Box<dyn Transport + Send>> {
    let mut senders: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    let mut receivers: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    for from in &mut senders {
        for to in &mut receivers {
            let (sender, receiver) = channel();
            from.push(sender);
            to.push(receiver);
        }
    }
    let rank = |(rank, (senders, receivers))| {
        Box::new(InProcess { rank, senders, receivers }) as Box<dyn Transport + Send>
    };
    senders.into_iter().zip(receivers).enumerate().map(rank).collect()
}

impl Transport for InProcess {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.senders.len()
    }

    fn exchange(&mut self, partner: usize, sent: &[u8], received: &mut [u8]) -> Result<()> {
        let ended = || Error::new(ErrorKind::Internal, format!("rank {partner} has ended"));
        self.senders[partner].send(sent.to_vec()).map_err(|_| ended())?;
        let message = self.receivers[partner].recv().map_err(|_| ended())?;
        if message.len() != received.len() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("rank {partner} sent {} bytes, expected {}", message.len(), received.len()),
            ));
        }
        received.copy_from_slice(&message);
        Ok(())
    }

    fn abort(&mut self, code: i32) -> ! {
        std::process::exit(code)
    }
}
