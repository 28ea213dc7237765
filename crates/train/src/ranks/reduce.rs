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

/// How elements are added and sent.
pub(crate) trait Addition<T> {
    /// Size of an element in a message.
    const BYTES: usize;

    /// Appends elements to a message.
    fn encode(&self, values: &[T], message: &mut Vec<u8>);

    /// Reads the elements of a message.
    fn decode(&self, message: &[u8], values: &mut [T]);

    /// Adds the elements of a neighbor in the tree, `level` levels above the ranks. They are the elements `at` of all.
    fn add(&mut self, level: usize, at: Range<usize>, own: &mut [T], theirs: &[T]);
}

/// Adds in the precision of the elements.
pub(crate) struct Exact;

impl<T: Pod + AddAssign> Addition<T> for Exact {
    const BYTES: usize = size_of::<T>();

    fn encode(&self, values: &[T], message: &mut Vec<u8>) {
        message.extend_from_slice(bytemuck::cast_slice(values));
    }

    fn decode(&self, message: &[u8], values: &mut [T]) {
        bytemuck::cast_slice_mut(values).copy_from_slice(message);
    }

    fn add(&mut self, _: usize, _: Range<usize>, own: &mut [T], theirs: &[T]) {
        own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += *theirs);
    }
}

/// What a rank does at one level of the tree.
pub(crate) struct Level {
    partner: usize,
    /// The elements that it adds.
    pub kept: Range<usize>,
    /// The elements that the partner adds.
    given: Range<usize>,
}

/// Returns the levels of a tree over `size` ranks for a rank and `len` elements.
///
/// Ranks exchange halves: at each level, of the elements that two ranks still have in common, each adds one half.
pub(crate) fn levels(rank: usize, size: usize, len: usize) -> Vec<Level> {
    let (mut levels, mut distance, mut common) = (Vec::new(), 1, 0..len);
    while distance < size {
        let middle = common.start + common.len() / 2;
        let (low, high) = (common.start..middle, middle..common.end);
        let (kept, given) = if rank & distance == 0 { (low, high) } else { (high, low) };
        common = kept.clone();
        levels.push(Level { partner: rank ^ distance, kept, given });
        distance *= 2;
    }
    levels
}

/// Adds the elements `at` of a neighbor in the tree, by `add`. A part that only one of both has stays as it is.
pub(crate) fn add_parts<T: Copy>(
    values: &mut [T],
    parts: &mut [Part],
    at: &Range<usize>,
    theirs: &[T],
    presence: impl IntoIterator<Item = bool>,
    mut add: impl FnMut(Range<usize>, &mut [T], &[T]),
) {
    for (part, _) in parts.iter_mut().zip(presence).filter(|(_, is_present)| *is_present) {
        let common = part.range.start.max(at.start)..part.range.end.min(at.end);
        if !common.is_empty() {
            let theirs = &theirs[common.start - at.start..common.end - at.start];
            let own = &mut values[common.clone()];
            if part.is_present {
                add(common, own, theirs);
            } else {
                own.copy_from_slice(theirs);
            }
        }
        part.is_present = true;
    }
}

/// Adds the values of all ranks: neighbors first, then pairs of neighbors. A rank without a part adds nothing to it. All ranks get
/// the same bits.
///
/// After the sums, which are divided among the ranks, they go the same way back. A rank sends less than twice its values.
pub(crate) fn reduce<T: Pod + Zeroable, A: Addition<T>>(
    transport: &mut dyn Transport,
    values: &mut [T],
    parts: &mut [Part],
    addition: &mut A,
) -> Result<()> {
    let levels = levels(transport.rank(), transport.size(), values.len());
    let (mut sent, mut received, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for (number, level) in levels.iter().enumerate() {
        sent.clear();
        addition.encode(&values[level.given.clone()], &mut sent);
        // Behind the elements: a byte for each part.
        sent.extend(parts.iter().map(|part| u8::from(part.is_present)));
        received.clear();
        received.resize(level.kept.len() * A::BYTES + parts.len(), 0);
        transport.exchange(level.partner, &sent, &mut received)?;

        let (elements, presence) = received.split_at(level.kept.len() * A::BYTES);
        theirs.clear();
        theirs.resize(level.kept.len(), T::zeroed());
        addition.decode(elements, &mut theirs);
        let presence = presence.iter().map(|flag| *flag != 0);
        add_parts(values, parts, &level.kept, &theirs, presence, |at, own, theirs| {
            addition.add(number, at, own, theirs);
        });
    }
    for level in levels.into_iter().rev() {
        sent.clear();
        addition.encode(&values[level.kept], &mut sent);
        received.clear();
        received.resize(level.given.len() * A::BYTES, 0);
        transport.exchange(level.partner, &sent, &mut received)?;
        addition.decode(&received, &mut values[level.given]);
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
                    reduce(transport, &mut values, &mut parts, &mut Exact).unwrap();
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
                reduce(transport, &mut values, &mut parts, &mut Exact).unwrap();
                (values[0].to_bits(), values[2], parts.map(|part| part.is_present))
            });
            assert_eq!(sums, vec![((-0.0f64).to_bits(), 8.0, [true, false, true]); 4]);
        }
    }
}
