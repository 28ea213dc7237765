//! A contact sheet: pictures as they are, and after each step of augmentation.

use std::collections::BTreeSet;
use std::path::Path;

use neocog_data::resize::{Resizer, unit};
use neocog_data::shuffle::permutation;
use neocog_data::transform::{ColorJitter, Normalize, Pipeline, RandomAffine, RandomErasing, Step};
use neocog_data::{Dataset, SampleId, Transform};
use neocog_tensor::Result;
use neocog_viz::{ContactSheet, Image, RgbImage, Thumbnail, save};

use crate::output;

/// Pictures are enlarged to this, as for most networks here.
const SIZE: usize = 28;

/// Draws the sheet of `count` pictures and writes it to `out`.
pub fn show(data: &Dataset, name: &str, count: usize, seed: u64, out: &Path) -> Result<()> {
    save(&sheet(data, name, count, seed)?, out)?;
    output::line(format_args!("what augmentation does to pictures of {name}: {}", out.display()))
}

fn sheet(data: &Dataset, name: &str, count: usize, seed: u64) -> Result<RgbImage> {
    let chosen = chosen(data, count, seed);
    let mut originals = Vec::new();
    for &i in &chosen {
        originals.push(enlarged(data, i)?);
    }
    let [channels, ..] = data.shape();
    let shape = [channels, SIZE, SIZE];
    let class = |i: usize| data.class_names()[usize::from(data.labels()[i])].clone();
    let sheet = ContactSheet::new(format!("What augmentation does to {name}"))
        .note("Each row is one option of train; what happens to a picture is decided by the seed, the epoch and the picture's number.")
        .headings(chosen.iter().map(|&i| class(i)))
        .row("original", cells(&originals, shape)?);
    let mut sheet = rows(sheet, &of_any_picture(), &originals, shape, &chosen, seed)?;
    let mut coloured = (originals, shape);
    if channels == 1 {
        coloured = (coloured.0.iter().map(|grey| painted(grey)).collect(), [3, SIZE, SIZE]);
        sheet = sheet.row(
            "painted\ngrey pictures have no colours to\nchange: here they get some",
            cells(&coloured.0, coloured.1)?,
        );
    }
    sheet = rows(sheet, &of_colours(), &coloured.0, coloured.1, &chosen, seed)?;
    normalized(sheet, data, &chosen).map(|sheet| sheet.draw())
}

/// Options of `train` with what they do.
fn of_any_picture() -> Vec<(&'static str, Vec<Step>)> {
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
            "many at once\n--flip --crop-padding 2 --rotation 10\n--brightness 0.3 --contrast 0.3",
            vec![
                Step::RandomHorizontalFlip { p: 0.5 },
                Step::RandomCrop { padding: 2 },
                Step::RandomAffine(RandomAffine { degrees: 10.0, translate: 0.0, scale: 0.0 }),
                jitter(0.3, 0.3),
            ],
        ),
    ]
}

fn of_colours() -> Vec<(&'static str, Vec<Step>)> {
    let jitter =
        |saturation, hue| vec![Step::ColorJitter(ColorJitter { saturation, hue, ..ColorJitter::default() })];
    vec![("--saturation 1", jitter(1.0, 0.0)), ("--hue 0.5", jitter(0.0, 0.5))]
}

/// A row for each of the options.
fn rows(
    mut sheet: ContactSheet,
    options: &[(&'static str, Vec<Step>)],
    originals: &[Vec<f32>],
    shape: [usize; 3],
    chosen: &[usize],
    seed: u64,
) -> Result<ContactSheet> {
    for (label, steps) in options {
        let pipeline = Pipeline { steps: steps.clone() };
        let mut changed = originals.to_vec();
        for (pixels, &index) in changed.iter_mut().zip(chosen) {
            pipeline.apply(pixels, shape, SampleId { seed, epoch: 0, index })?;
        }
        sheet = sheet.row(label, cells(&changed, shape)?);
    }
    Ok(sheet)
}

/// A row of normalised pictures, of which each channel has its mean at 0: the first channel in red above and blue below it.
fn normalized(sheet: ContactSheet, data: &Dataset, chosen: &[usize]) -> Result<ContactSheet> {
    let (mean, std) = data.mean_and_std();
    let label = format!(
        "--normalize\nmean {:.3}, deviation {:.3}:\nred is above the mean, blue below",
        mean[0], std[0]
    );
    let rounded = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
    let pipeline = Pipeline::from([Step::Normalize(Normalize { mean: rounded(mean), std: rounded(std) })]);
    let mut cells = Vec::new();
    for &i in chosen {
        let mut pixels = enlarged(data, i)?;
        pipeline.apply(&mut pixels, [data.shape()[0], SIZE, SIZE], SampleId::default())?;
        cells.push(Thumbnail::new(Image::diverging(&pixels[..SIZE * SIZE], [SIZE, SIZE], 2.0)?));
    }
    Ok(sheet.row(&label, cells))
}

/// Pictures of different classes, as long as there are more classes.
fn chosen(data: &Dataset, count: usize, seed: u64) -> Vec<usize> {
    let order: Vec<usize> = permutation(data.len() as u32, seed, 0).into_iter().map(|i| i as usize).collect();
    let mut seen = BTreeSet::new();
    let (first, others): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|&i| seen.insert(data.labels()[i]));
    first.into_iter().chain(others).take(count).collect()
}

/// Image `i`, `[c, SIZE, SIZE]`, as the loader hands it out.
fn enlarged(data: &Dataset, i: usize) -> Result<Vec<f32>> {
    let [_, h, w] = data.shape();
    let levels = data.levels();
    let mut resizer = Resizer::new((h, w), (SIZE, SIZE))?;
    let mut pixels = Vec::new();
    for channel in data.image(i).chunks_exact(h * w) {
        let bytes: Vec<u8> = channel.iter().map(|&p| levels[usize::from(p)]).collect();
        let mut resized = vec![0; SIZE * SIZE];
        resizer.resize(&bytes, &mut resized);
        pixels.extend(resized.into_iter().map(unit));
    }
    Ok(pixels)
}

/// Greys in colours that go from orange at the top to green at the bottom, on a dark blue ground.
fn painted(grey: &[f32]) -> Vec<f32> {
    let (top, bottom, ground) = ([1.0, 0.55, 0.2], [0.35, 0.8, 0.35], [0.1, 0.12, 0.3]);
    (0..3)
        .flat_map(|c: usize| {
            grey.iter().enumerate().map(move |(i, value)| {
                let down = (i / SIZE) as f32 / (SIZE - 1) as f32;
                let colour = top[c] + (bottom[c] - top[c]) * down;
                ground[c] + (colour - ground[c]) * value
            })
        })
        .collect()
}

fn cells(pictures: &[Vec<f32>], shape: [usize; 3]) -> Result<Vec<Thumbnail>> {
    pictures.iter().map(|pixels| Ok(Thumbnail::new(Image::from_values(pixels, shape)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_the_same_for_the_same_seed() {
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().train;
        let sheet = |seed| sheet(&data, "digits", 3, seed).unwrap();
        let first = sheet(1);
        // Three pictures beside the labels, and a row for the original and each option.
        assert!(first.width() > 3 * 84 && first.height() > 15 * 84, "{:?}", first.dimensions());
        assert_eq!(first, sheet(1));
        assert_ne!(first, sheet(2));
    }

    #[test]
    fn classes_differ_as_long_as_they_can() {
        let data = neocog_data::load("digits", "data".as_ref()).unwrap().train;
        let labels: BTreeSet<u8> = chosen(&data, 10, 5).into_iter().map(|i| data.labels()[i]).collect();
        assert_eq!(labels.len(), 10);
        assert_eq!(chosen(&data, 25, 5).len(), 25);
    }
}
