//! What all ranks tell each other.

use neocog_tensor::{Error, Result};
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
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&own, config)
            .map_err(|e| Error::format("cannot encode a message to other processes").with_source(e))?;
        self.collect_bytes(bytes)?
            .iter()
            .map(|bytes| {
                bincode::serde::decode_from_slice(bytes, config)
                    .map(|(value, _)| value)
                    .map_err(|e| Error::format("cannot read a message of another process").with_source(e))
            })
            .collect()
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
    fn a_process_alone_needs_no_others() {
        let ranks = Ranks::single();
        assert_eq!((ranks.collect(3).unwrap(), ranks.any(false).unwrap()), (vec![3], false));
        assert!(ranks.check_shards(1).is_ok() && ranks.is_first());
    }
}
