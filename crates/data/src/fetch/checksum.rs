//! SHA-256 as hexadecimal digits.

use sha2::{Digest, Sha256};

/// Returns the digest as 64 lower-case hexadecimal digits.
pub(crate) fn to_hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
