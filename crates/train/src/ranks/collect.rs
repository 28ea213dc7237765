//! What all ranks tell each other.

use std::any::type_name;

use neocog_tensor::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Ranks;
use super::transport::Transport;

impl Ranks {
    /// Returns what each rank has, in their order.
    ///
    /// # Errors
    /// When the connection fails.
    pub(crate) fn collect<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>> {
        if self.size() == 1 {
            return Ok(vec![own]);
        }
        self.collect_bytes(encode(&own)?)?.iter().map(|bytes| decode(bytes)).collect()
    }

    /// Returns the bytes of each rank, in their order.
    ///
    /// # Errors
    /// When the connection fails.
    pub(crate) fn collect_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.size() == 1 {
            return Ok(vec![own]);
        }
        self.submit(move |transport| collect(transport, own)).wait()
    }

    /// Whether it is true on any rank.
    ///
    /// # Errors
    /// As [`Ranks::collect`].
    pub(crate) fn any(&self, own: bool) -> Result<bool> {
        Ok(self.collect(own)?.contains(&true))
    }

    /// Returns what the first rank has.
    ///
    /// # Errors
    /// As [`Ranks::collect`].
    pub(crate) fn first<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T> {
        Ok(self.collect(own)?.swap_remove(0))
    }
}

/// The ranks that get something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receivers {
    First,
    All,
}

impl Ranks {
    /// Whether this rank is one of them.
    pub(crate) fn is_among(&self, receivers: Receivers) -> bool {
        receivers == Receivers::All || self.is_first()
    }

    /// Passes on what rank `from` has; `None` on ranks that do not get it. Others than these do nothing.
    ///
    /// # Errors
    /// When the connection fails, or `own` does.
    pub(crate) fn pass_on<T: Serialize + DeserializeOwned>(
        &self,
        from: usize,
        receivers: Receivers,
        own: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let last = if receivers == Receivers::All { self.size() } else { 1 };
        if self.rank() == from {
            let own = own()?;
            if (0..last).any(|to| to != from) {
                let bytes = encode(&own)?;
                self.submit(move |transport| {
                    for to in (0..last).filter(|to| *to != from) {
                        transport.exchange(to, bytemuck::bytes_of(&(bytes.len() as u64)), &mut [])?;
                        transport.exchange(to, &bytes, &mut [])?;
                    }
                    Ok(())
                })
                .wait()?;
            }
            return Ok(self.is_among(receivers).then_some(own));
        }
        if !self.is_among(receivers) {
            return Ok(None);
        }
        let bytes = self.submit(move |transport| {
            let mut length = 0u64;
            transport.exchange(from, &[], bytemuck::bytes_of_mut(&mut length))?;
            let mut bytes = vec![0; length as usize];
            transport.exchange(from, &[], &mut bytes)?;
            Ok(bytes)
        });
        decode(&bytes.wait()?).map(Some)
    }

    /// Passes on the bytes of each rank to all others, in pieces. `own` returns the next ones of this rank, as many as asked for;
    /// `receive` gets those of another rank. All know the numbers of bytes, `lengths`.
    ///
    /// # Errors
    /// When the connection fails, or `own` or `receive` do.
    pub(crate) fn pass_on_all(
        &self,
        lengths: &[usize],
        mut own: impl FnMut(usize) -> Result<Vec<u8>>,
        mut receive: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let longest = lengths.iter().max().copied().unwrap_or(0);
        for start in (0..longest).step_by(PIECE) {
            let piece = |length: usize| length.min(start + PIECE).saturating_sub(start);
            let own = own(piece(lengths[self.rank()]))?;
            for (rank, bytes) in self.collect_bytes(own)?.iter().enumerate() {
                if rank != self.rank() && !bytes.is_empty() {
                    receive(rank, bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// The bytes of each rank that are passed on to all at a time.
const PIECE: usize = 4 << 20;

/// Encodes a message, with the type that it is of.
fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec((type_name::<T>(), value), bincode::config::standard())
        .map_err(|e| Error::format("cannot encode a message to other processes").with_source(e))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let config = bincode::config::standard();
    let kind = bincode::serde::decode_from_slice::<String, _>(bytes, config);
    if let Some((kind, _)) = kind.as_ref().ok().filter(|(kind, _)| kind != type_name::<T>()) {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("another process is elsewhere in the run: it sent {kind}, not {}", type_name::<T>()),
        ));
    }
    bincode::serde::decode_from_slice::<(String, T), _>(bytes, config)
        .map(|((_, value), _)| value)
        .map_err(|e| Error::format("cannot read a message of another process").with_source(e))
}

/// Returns the bytes of each rank.
fn collect(transport: &mut dyn Transport, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
    let (rank, size) = (transport.rank(), transport.size());
    let mut known = vec![own];
    let mut distance = 1;
    while distance < size {
        let partner = rank ^ distance;
        let lengths: Vec<u64> = known.iter().map(|bytes| bytes.len() as u64).collect();
        let mut their_lengths = vec![0u64; lengths.len()];
        transport.exchange(
            partner,
            bytemuck::cast_slice(&lengths),
            bytemuck::cast_slice_mut(&mut their_lengths),
        )?;
        let mut received = vec![0; their_lengths.iter().sum::<u64>() as usize];
        transport.exchange(partner, &known.concat(), &mut received)?;
        let mut rest = received.as_slice();
        let theirs = their_lengths.into_iter().map(|length| {
            let (bytes, others) = rest.split_at(length as usize);
            rest = others;
            bytes.to_vec()
        });
        let theirs: Vec<Vec<u8>> = theirs.collect();
        known = if rank & distance == 0 { [known, theirs].concat() } else { [theirs, known].concat() };
        distance *= 2;
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::super::in_process;
    use super::*;

    #[test]
    fn every_rank_learns_what_each_has() {
        let threads: Vec<_> = in_process(4)
            .into_iter()
            .map(|transport| {
                std::thread::spawn(move || {
                    let ranks = Ranks::connect(|| Ok(transport)).unwrap();
                    let text = "x".repeat(ranks.rank());
                    let all = ranks.collect(text).unwrap();
                    (all, ranks.any(ranks.rank() == 2).unwrap(), ranks.first(ranks.rank()).unwrap())
                })
            })
            .collect();
        for thread in threads {
            let (all, any, first) = thread.join().unwrap();
            assert_eq!(all, ["", "x", "xx", "xxx"]);
            assert!(any && first == 0);
        }
    }

    #[test]
    fn a_rank_passes_on_to_the_first_or_to_all() {
        let threads: Vec<_> = in_process(4)
            .into_iter()
            .map(|transport| {
                std::thread::spawn(move || {
                    let ranks = Ranks::connect(|| Ok(transport)).unwrap();
                    let text = || Ok(ranks.rank().to_string());
                    let to_first = ranks.pass_on(2, Receivers::First, text).unwrap();
                    let from_first = ranks.pass_on(0, Receivers::First, text).unwrap();
                    let to_all = ranks.pass_on(1, Receivers::All, text).unwrap();
                    // As many bytes as the rank's number, and more than a piece of the last one.
                    let lengths = [0, 1, 2, PIECE + 3];
                    let mut received = [0; 4];
                    let own = |length| Ok(vec![ranks.rank() as u8; length]);
                    let receive = |rank: usize, bytes: &[u8]| {
                        assert!(bytes.iter().all(|byte| usize::from(*byte) == rank));
                        received[rank] += bytes.len();
                        Ok(())
                    };
                    ranks.pass_on_all(&lengths, own, receive).unwrap();
                    received[ranks.rank()] = lengths[ranks.rank()];
                    assert_eq!(received, lengths);
                    (to_first, from_first, to_all)
                })
            })
            .collect();
        for (rank, thread) in threads.into_iter().enumerate() {
            let only_first = |text: &str| (rank == 0).then(|| text.to_string());
            let expected = (only_first("2"), only_first("0"), Some("1".to_string()));
            assert_eq!(thread.join().unwrap(), expected, "{rank}");
        }
    }

    #[test]
    fn a_process_alone_needs_no_others() {
        let ranks = Ranks::single();
        assert_eq!((ranks.collect(3).unwrap(), ranks.any(false).unwrap()), (vec![3], false));
        assert!(ranks.check_shards(1).is_ok() && ranks.is_first());
    }
}
