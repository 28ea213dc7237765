//! What the project's fuzz targets need of the cache. Not part of the public interface.

use super::cache::{self, Key};
use super::tuned;

/// Parses the file of a cached program; returns its length if it is whole.
pub fn cached_program(bytes: &[u8]) -> Option<usize> {
    cache::parse(bytes, &Key::of(&["fuzz"])).map(<[u8]>::len)
}

/// Returns the file of a cached program.
pub fn cache_entry(program: &[u8]) -> Vec<u8> {
    cache::entry(&Key::of(&["fuzz"]), program)
}

/// Parses stored tile sizes; returns them as text.
pub fn tuned_sizes(bytes: &[u8]) -> Option<String> {
    tuned::parse(bytes).map(|tiles| tiles.to_string())
}
