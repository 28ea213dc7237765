//! Numbers in messages.

use std::fmt::Display;

/// `number` with a noun in the singular or plural: `1 epoch`, `2 epochs`, `0 batches`. For nouns that form their plural with
/// `s` or `es`.
pub fn count(number: impl Display + PartialEq + From<u8>, noun: &str) -> String {
    format!("{number} {}", noun_for(&number, noun))
}

/// `noun` in the form that fits to `number`, for a number that is formatted in another way.
pub fn noun_for(number: &(impl PartialEq + From<u8>), noun: &str) -> String {
    if *number == 1u8.into() {
        return noun.to_string();
    }
    // The end of "epoch" is spoken as a k.
    let sibilant = ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end)) && !noun.ends_with("epoch");
    format!("{noun}{}", if sibilant { "es" } else { "s" })
}

/// Returns a number with commas between thousands: `44,426`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!(count(1, "epoch"), "1 epoch");
        assert_eq!(count(2, "epoch"), "2 epochs");
        assert_eq!(count(2usize, "image"), "2 images");
        assert_eq!(count(0u64, "batch"), "0 batches");
        assert_eq!(count(3u32, "class"), "3 classes");
        assert_eq!(noun_for(&1_000u64, "parameter"), "parameters");
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        let texts = [0, 999, 1000, 44_426, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "44,426", "1,234,567"]);
    }
}
