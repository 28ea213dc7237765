//! `data --show`: a contact sheet of images, original and after each augmentation.

use std::collections::BTreeSet;
use std::path::Path;

use neocog_data::dataset::mean_and_std;
use neocog_data::resize::{Filter, ResizeCache};
use neocog_data::shuffle::permutation;
use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_data::{ByteImage, Dataset, SampleId, Transform};
use neocog_tensor::{Error, Result};
use neocog_viz::{ContactSheet, Image, RgbImage, Thumbnail, save};

use crate::output;

/// Images are resized to this height and width, the input of most networks.
const SIZE: usize = 28;

/// Draws the sheet of `count` images and writes it to `out`.
///
/// # Errors
/// When a transform fails or the file cannot be written.
pub fn show(data: &dyn Dataset, name: &str, count: usize, seed: u64, out: &Path) -> Result<()> {
    save(&sheet(data, name, count, seed)?, out)?;
    output::line(format_args!("wrote a contact sheet of {name} to {}", out.display()))
}

fn sheet(data: &dyn Dataset, name: &str, count: usize, seed: u64) -> Result<RgbImage> {
    let (mut selected, mut originals) = (Vec::new(), Vec::new());
    for i in select(data, data.len(), seed) {
        if selected.len() == count {
            break;
        }
        match resized(data, i) {
            Ok(image) => {
                selected.push(i);
                originals.push(image);
            }
            // Others are shown in its place.
            Err(e) if data.is_on_disk() => output::note(format_args!("warning: left out: {e}")),
            Err(e) => return Err(e),
        }
    }
    if selected.is_empty() {
        return Err(Error::format("no image can be read").context(name));
    }
    let channels = data.channels();
    let shape = [channels, SIZE, SIZE];
    let class = |i: usize| data.class_names()[data.labels()[i] as usize].clone();
    let sheet = ContactSheet::new(format!("Augmentations of {name}"))
        .note("A row per option of train. Random transforms depend on the seed, the epoch and the index of the image.")
        .headings(selected.iter().map(|&i| class(i)))
        .row("original", cells(&originals, shape)?);
    let mut sheet = rows(sheet, &geometric_and_intensity(), &originals, shape, &selected, seed)?;
    let mut color = (originals, shape);
    if channels == 1 {
        color = (color.0.iter().map(|gray| colorized(gray)).collect(), [3, SIZE, SIZE]);
        sheet = sheet
            .row("colorized\ngray images have no hue and\nsaturation to change", cells(&color.0, color.1)?);
    }
    sheet = rows(sheet, &color_steps(), &color.0, color.1, &selected, seed)?;
    normalized(sheet, data, &selected)?.draw()
}

/// Options of `train` for all images, with their transforms.
fn geometric_and_intensity() -> Vec<(&'static str, Vec<Step>)> {
    let affine =
        |degrees, translate, scale| vec![Step::RandomAffine(RandomAffine { degrees, translate, scale })];
    let jitter = |brightness, contrast| {
        Step::ColorJitter(ColorJitter { brightness, contrast, ..ColorJitter::default() })
    };
    vec![
        ("--flip", vec![Step::RandomHorizontalFlip { p: 0.5 }]),
        ("--vertical-flip", vec![Step::RandomVerticalFlip { p: 0.5 }]),
        ("--crop-padding 4", vec![Step::RandomCrop { padding: 4 }]),
        ("--rotation 30", affine(30.0, 0.0, 0.0)),
        ("--translate 0.2", affine(0.0, 0.2, 0.0)),
        ("--scale 0.3", affine(0.0, 0.0, 0.3)),
        ("--brightness 0.6", vec![jitter(0.6, 0.0)]),
        ("--contrast 0.8", vec![jitter(0.0, 0.8)]),
        ("--erasing=1", vec![Step::RandomErasing(RandomErasing { p: 1.0, ..RandomErasing::default() })]),
        (
            "combined\n--flip --crop-padding 2 --rotation 10\n--brightness 0.3 --contrast 0.3",
            vec![
                Step::RandomHorizontalFlip { p: 0.5 },
                Step::RandomCrop { padding: 2 },
                Step::RandomAffine(RandomAffine { degrees: 10.0, translate: 0.0, scale: 0.0 }),
                jitter(0.3, 0.3),
            ],
        ),
    ]
}

/// Options of `train` for color images, with their transforms.
fn color_steps() -> Vec<(&'static str, Vec<Step>)> {
    let jitter =
        |saturation, hue| vec![Step::ColorJitter(ColorJitter { saturation, hue, ..ColorJitter::default() })];
    vec![("--saturation 1", jitter(1.0, 0.0)), ("--hue 0.5", jitter(0.0, 0.5))]
}

/// Adds a row per option.
fn rows(
    mut sheet: ContactSheet,
    options: &[(&'static str, Vec<Step>)],
    originals: &[Vec<f32>],
    shape: [usize; 3],
    selected: &[usize],
    seed: u64,
) -> Result<ContactSheet> {
    for (label, steps) in options {
        let pipeline = Pipeline::from(steps.clone());
        let mut transformed = originals.to_vec();
        for (pixels, &index) in transformed.iter_mut().zip(selected) {
            pipeline.apply(pixels, shape, SampleId { seed, epoch: 0, index })?;
        }
        sheet = sheet.row(label, cells(&transformed, shape)?);
    }
    Ok(sheet)
}

/// Adds a row of normalized images: the first channel, positive values in red, negative ones in blue.
fn normalized(sheet: ContactSheet, data: &dyn Dataset, selected: &[usize]) -> Result<ContactSheet> {
    let (mean, std) = mean_and_std(data)?;
    let label =
        format!("--normalize\nmean {:.3}, std {:.3};\nred above the mean, blue below", mean[0], std[0]);
    let rounded = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
    let pipeline = Pipeline::from([Step::Normalize(Normalize { mean: rounded(mean), std: rounded(std) })]);
    let mut cells = Vec::new();
    for &i in selected {
        let mut pixels = resized(data, i)?;
        pipeline.apply(&mut pixels, [data.channels(), SIZE, SIZE], SampleId::default())?;
        cells.push(Thumbnail::new(Image::diverging(&pixels[..SIZE * SIZE], [SIZE, SIZE], 2.0)?));
    }
    Ok(sheet.row(&label, cells))
}

/// Selects `count` images at random, one of each class before the second of any.
fn select(data: &dyn Dataset, count: usize, seed: u64) -> Vec<usize> {
    let order: Vec<usize> = permutation(data.len() as u32, seed, 0).into_iter().map(|i| i as usize).collect();
    let mut seen = BTreeSet::new();
    let (first, others): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|&i| seen.insert(data.labels()[i]));
    first.into_iter().chain(others).take(count).collect()
}

/// Image `i`, `[c, SIZE, SIZE]`, as the loader returns it.
fn resized(data: &dyn Dataset, i: usize) -> Result<Vec<f32>> {
    let mut image = ByteImage::default();
    data.read(i, &mut image)?;
    ResizeCache::default().resize(&mut image, (SIZE, SIZE), Filter::Bilinear)?;
    let mut pixels = vec![0.0; image.pixels().len()];
    image.write_unit(&mut pixels);
    Ok(pixels)
}

/// Colors a gray image, `[SIZE, SIZE]`: orange at the top to green at the bottom, on dark blue. Returns `[3, SIZE, SIZE]`.
fn colorized(gray: &[f32]) -> Vec<f32> {
    let (top, bottom, background) = ([1.0, 0.55, 0.2], [0.35, 0.8, 0.35], [0.1, 0.12, 0.3]);
    (0..3)
        .flat_map(|c: usize| {
            gray.iter().enumerate().map(move |(i, value)| {
                let position = (i / SIZE) as f32 / (SIZE - 1) as f32;
                let color = top[c] + (bottom[c] - top[c]) * position;
                background[c] + (color - background[c]) * value
            })
        })
        .collect()
}

fn cells(images: &[Vec<f32>], shape: [usize; 3]) -> Result<Vec<Thumbnail>> {
    images.iter().map(|pixels| Ok(Thumbnail::new(Image::from_values(pixels, shape)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sheets() {
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().train;
        let sheet = |seed| sheet(&*data, "digits", 3, seed).unwrap();
        let first = sheet(1);
        // Three columns next to the labels, and a row for the original and each option.
        assert!(first.width() > 3 * 84 && first.height() > 15 * 84, "{:?}", first.dimensions());
        assert_eq!(first, sheet(1));
        assert_ne!(first, sheet(2));
    }

    #[test]
    fn one_image_of_each_class_is_selected_first() {
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().train;
        let labels: BTreeSet<u32> = select(&*data, 10, 5).into_iter().map(|i| data.labels()[i]).collect();
        assert_eq!(labels.len(), 10);
        assert_eq!(select(&*data, 25, 5).len(), 25);
    }
}
