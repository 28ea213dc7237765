//! The confusion matrix as an image.

use neocog_base::Result;
use neocog_train::metrics::ConfusionMatrix;
use neocog_viz::{Image, RgbImage};

/// Pixels of a side, about.
const SIZE: usize = 400;

/// Draws the confusion matrix: the darker, the larger the share of the row; rows are the true classes.
pub(crate) fn confusion_image(matrix: &ConfusionMatrix) -> Result<RgbImage> {
    let classes = matrix.classes();
    let scale = (SIZE / classes.max(1)).max(1);
    let side = classes * scale;
    let share =
        |truth, predicted| matrix.count(truth, predicted) as f64 / matrix.support(truth).max(1) as f64;
    let values: Vec<f32> =
        (0..side * side).map(|i| 1.0 - share(i / side / scale, i % side / scale) as f32).collect();
    Ok(Image::from_values(&values, [1, side, side])?.to_rgb(side))
}
