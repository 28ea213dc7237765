//! Numbers for people.

/// A number with commas between thousands: `44,426`.
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
    use super::thousands;

    #[test]
    fn thousands_are_separated_by_commas() {
        let texts = [0, 999, 1000, 44_426, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "44,426", "1,234,567"]);
    }
}
