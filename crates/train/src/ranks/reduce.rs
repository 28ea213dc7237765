//! Sums over ranks, in the order of a binary tree.

use std::ops::{AddAssign, Range};

use bytemuck::{Pod, Zeroable};
use neocog_tensor::Result;

use super::transport::Transport;

/// The elements of one tensor among those that are added together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub range: Range<usize>,
    /// Whether this rank has the tensor; if not, its elements have no meaning.
    pub is_present: bool,
}

/// Adds the values of all ranks: neighbors first, then pairs of neighbors. A rank without a part adds nothing to it. All ranks get
/// the same bits.
///
/// Ranks exchange halves: at each level of the tree, of the values that two ranks still have in common, each adds one half. Then
/// the sums go the same way back. A rank sends less than twice its values.
pub(crate) fn reduce<T: Pod + Zeroable + AddAssign>(
    transport: &mut dyn Transport,
    values: &mut [T],
    parts: &mut [Part],
) -> Result<()> {
    let (rank, size) = (transport.rank(), transport.size());
    // Behind the values of a message: a byte for each part.
    let flags = parts.len().div_ceil(size_of::<T>());
    let mut segment = 0..values.len();
    let mut exchanged: Vec<(usize, Range<usize>, Range<usize>)> = Vec::new();
    let (mut sent, mut received): (Vec<T>, Vec<T>) = (Vec::new(), Vec::new());
    let mut distance = 1;
    while distance < size {
        let partner = rank ^ distance;
        let middle = segment.start + segment.len() / 2;
        let (low, high) = (segment.start..middle, middle..segment.end);
        let (kept, given) = if rank & distance == 0 { (low, high) } else { (high, low) };

        sent.clear();
        sent.extend_from_slice(&values[given.clone()]);
        sent.resize(given.len() + flags, T::zeroed());
        let presence = parts.iter().map(|part| u8::from(part.is_present));
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut sent[given.len()..]);
        bytes.iter_mut().zip(presence).for_each(|(byte, flag)| *byte = flag);
        received.clear();
        received.resize(kept.len() + flags, T::zeroed());
        transport.exchange(partner, bytemuck::cast_slice(&sent), bytemuck::cast_slice_mut(&mut received))?;

        let (theirs, presence) = received.split_at(kept.len());
        let presence: &[u8] = bytemuck::cast_slice(presence);
        for (part, _) in parts.iter_mut().zip(presence).filter(|(_, flag)| **flag != 0) {
            let common = part.range.start.max(kept.start)..part.range.end.min(kept.end);
            if !common.is_empty() {
                let theirs = &theirs[common.start - kept.start..common.end - kept.start];
                let own = &mut values[common];
                if part.is_present {
                    own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += *theirs);
                } else {
                    own.copy_from_slice(theirs);
                }
            }
            part.is_present = true;
        }
        exchanged.push((partner, kept.clone(), given));
        segment = kept;
        distance *= 2;
    }
    for (partner, kept, given) in exchanged.into_iter().rev() {
        sent.clear();
        sent.extend_from_slice(&values[kept]);
        transport.exchange(
            partner,
            bytemuck::cast_slice(&sent),
            bytemuck::cast_slice_mut(&mut values[given]),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::super::in_process;
    use super::*;

    fn on_ranks<T: Send + 'static>(
        size: usize,
        f: impl Fn(&mut dyn Transport) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let threads: Vec<_> = in_process(size)
            .into_iter()
            .map(|mut transport| {
                let f = f.clone();
                std::thread::spawn(move || f(&mut *transport))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    /// Neighbors are added first: in single precision, 1 is lost beside 1e8.
    #[test]
    fn the_order_of_sums_is_that_of_a_tree() {
        for (of_ranks, sum) in [([1e8, 1.0, -1e8, 1.0], 0.0), ([1e8, -1e8, 1.0, 1.0], 2.0f32)] {
            for elements in [1, 2, 3, 7, 64] {
                let sums = on_ranks(4, move |transport| {
                    let mut values = vec![of_ranks[transport.rank()]; elements];
                    let mut parts = [Part { range: 0..elements, is_present: true }];
                    reduce(transport, &mut values, &mut parts).unwrap();
                    values
                });
                assert_eq!(sums, vec![vec![sum; elements]; 4]);
            }
        }
    }

    #[test]
    fn a_rank_without_a_tensor_adds_nothing() {
        for rank in 0..4 {
            let sums = on_ranks(4, move |transport| {
                let is_present = transport.rank() == rank;
                // -0 + 0 would be 0.
                let mut values = if is_present { vec![-0.0, 3.0, 5.0] } else { vec![0.0f64, 9.0, 1.0] };
                let mut parts = [
                    Part { range: 0..1, is_present },
                    Part { range: 1..2, is_present: false },
                    Part { range: 2..3, is_present: true },
                ];
                reduce(transport, &mut values, &mut parts).unwrap();
                (values[0].to_bits(), values[2], parts.map(|part| part.is_present))
            });
            assert_eq!(sums, vec![((-0.0f64).to_bits(), 8.0, [true, false, true]); 4]);
        }
    }
}
