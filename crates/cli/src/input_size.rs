//! The size of a picture as it is written on the command line.

use std::str::FromStr;

use neocog_tensor::{Error, Result};
use neocog_train::model_file::check_input;

/// Channels, height and width: `1x28x28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSize(pub [usize; 3]);

impl FromStr for InputSize {
    type Err = Error;

    /// # Errors
    /// When the text is not three numbers above 0 with an `x` between them.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<usize>> =
            text.split('x').map(|n| n.parse().ok().filter(|n| *n > 0)).collect();
        let size = numbers.and_then(|n| <[usize; 3]>::try_from(n).ok());
        let Some(size) = size else {
            return Err(Error::invalid_argument(format!(
                "an input is written as channels, height and width, like 1x28x28; \"{text}\" is not"
            )));
        };
        check_input(size)?;
        Ok(InputSize(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!("3x32x40".parse::<InputSize>().unwrap().0, [3, 32, 40]);
        for wrong in ["", "28", "28x28", "1x28x28x1", "1x-2x3", "ax2x3", "1x0x3"] {
            assert!(wrong.parse::<InputSize>().unwrap_err().to_string().contains("like 1x28x28"));
        }
        for wrong in ["1x1099511627776x1099511627776", "1x65536x65536"] {
            assert!(
                wrong.parse::<InputSize>().unwrap_err().to_string().contains("is not a valid image shape")
            );
        }
    }
}
