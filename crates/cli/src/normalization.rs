//! Mean and standard deviation as an argument: `0.286/0.353`, or one value for each channel.

use neocog_data::transform::{Normalize, Pipeline, Step};

/// Parses MEAN/STD.
///
/// # Errors
/// When the text is not two lists of numbers, or the numbers are not valid.
pub fn normalize(text: &str) -> Result<Normalize, String> {
    let numbers =
        |text: &str| text.split(',').map(|n| n.trim().parse::<f32>().ok()).collect::<Option<Vec<f32>>>();
    let parts = text.split_once('/').and_then(|(mean, std)| Some((numbers(mean)?, numbers(std)?)));
    let (mean, std) = parts.ok_or("expected MEAN/STD, such as 0.286/0.353 or 0.5,0.5,0.4/0.2,0.2,0.3")?;
    Ok(Normalize { mean, std })
}

/// Parses MEAN/STD, or `none`, as the transforms of a network's input.
///
/// # Errors
/// As [`normalize`], and when the numbers are not valid.
pub fn input_transforms(text: &str) -> Result<Pipeline, String> {
    if text == "none" {
        return Ok(Pipeline::default());
    }
    let pipeline = Pipeline::from([Step::Normalize(normalize(text)?)]);
    pipeline.check().map_err(|e| e.to_string())?;
    Ok(pipeline)
}
