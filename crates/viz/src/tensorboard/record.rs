//! Records of TFRecord files: length, checksum of the length, content, checksum of the content, little-endian.

use std::io::{self, Write};

/// Writes a record in one piece, so that a reader of a growing file sees at most one unfinished record.
pub(super) fn write(out: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let length = (content.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(content.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(content);
    record.extend(masked_crc(content).to_le_bytes());
    out.write_all(&record)
}

/// The CRC-32C (Castagnoli), rotated and offset, as the format has it: a checksum of data that contains checksums would be weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnoli() {
        // The check value of CRC-32C in the catalog of Greg Cook, and 32 zeros of RFC 3720, appendix B.4.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(b""), 0xa282_ead8);
    }

    #[test]
    fn a_record_has_its_length_and_two_checksums() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"abc").unwrap();
        assert_eq!(bytes.len(), 8 + 4 + 3 + 4);
        assert_eq!(bytes[..8], 3u64.to_le_bytes());
        assert_eq!(bytes[8..12], masked_crc(&3u64.to_le_bytes()).to_le_bytes());
        assert_eq!(bytes[12..15], *b"abc");
        assert_eq!(bytes[15..], masked_crc(b"abc").to_le_bytes());
    }
}
