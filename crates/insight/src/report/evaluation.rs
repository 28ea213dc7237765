//! The sections of a report about what the network predicts.

use std::sync::Arc;

use maud::{Markup, PreEscaped, html};
use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_data::resize::ResizeCache;
use neocog_data::{ByteImage, Dataset, Inversion, Loader, LoaderOptions, Preprocessing, Split};
use neocog_layers::Predictor;
use neocog_train::metrics::{CALIBRATION_BINS, Calibration, ClassMetrics, ConfusionMatrix, top_k_accuracy};
use neocog_train::{Predictions, check_fits, evaluate_images};
use neocog_viz::{AxisScale, Chart, Image, RgbImage, data_uri};

use super::options::ReportOptions;
use super::page::{figure, table, text};
use crate::matrix_image::confusion_image;
use crate::run::Run;

/// Number of images of each kind.
const IMAGES: usize = 25;
/// Pixels of the longer side of an image.
const IMAGE_SIZE: usize = 112;
/// With more classes, the confusion matrix is an image, and pairs are listed.
const MAX_CLASSES: usize = 30;
/// Number of pairs that are listed.
const PAIRS: usize = 25;

/// The predictions of a run's network on a part of its data.
pub(super) struct Evaluated {
    part: &'static str,
    epoch: Option<u64>,
    data: Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    class_names: Vec<String>,
    predictions: Predictions,
    matrix: ConfusionMatrix,
    calibration: Calibration,
    unreadable: usize,
}

/// A name that is not wider than the column of a matrix may be.
fn short(name: &str) -> String {
    const MOST: usize = 16;
    if name.chars().count() <= MOST {
        return name.to_string();
    }
    name.chars().take(MOST - 1).chain(['\u{2026}']).collect()
}

impl Evaluated {
    /// Evaluates the network of the best epoch; `None` when `stop` became true.
    ///
    /// # Errors
    /// When there is no such part, the network does not fit the data, or the device fails.
    pub fn new(
        run: &Run,
        data: &Split,
        options: &ReportOptions,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Self>> {
        let checkpoint = run.evaluated();
        let config = &checkpoint.config;
        let (part, dataset) = match options.part.or(run.last.config.selected_on) {
            Some(part) => (part, data.part(part)?),
            None => data.evaluated()?,
        };
        let network = checkpoint.network(&options.device)?;
        check_fits(&*network, checkpoint.input, &**dataset)?;
        let [c, h, w] = checkpoint.input;
        let loader_options = LoaderOptions::new()
            .batch_size(config.batch)
            .image_size((h, w))
            .channels(Some(c))
            .augment(config.transforms.fixed().into_augment(config.seed))
            .workers(options.workers);
        let loader = Loader::new(Arc::clone(dataset), loader_options)?;
        let found = evaluate_images(&Predictor::new(network), &loader, &options.device, stop)?;
        let Some((_, predictions)) = found else { return Ok(None) };
        let mut preprocessing = checkpoint.preprocessing();
        preprocessing.inversion = Inversion::Never;
        Ok(Some(Evaluated {
            part: part.name(),
            epoch: checkpoint.history.last().map(|epoch| epoch.epoch),
            data: Arc::clone(dataset),
            preprocessing,
            class_names: checkpoint.class_names.clone(),
            matrix: ConfusionMatrix::new(&predictions),
            calibration: Calibration::new(&predictions, CALIBRATION_BINS),
            predictions,
            unreadable: loader.unreadable().len(),
        }))
    }

    /// The name of the part.
    pub fn part(&self) -> &'static str {
        self.part
    }

    /// The share of images that are classified correctly.
    pub fn accuracy(&self) -> f64 {
        top_k_accuracy(&self.predictions, 1)
    }

    /// The mean of the F1 scores of the classes.
    pub fn macro_f1(&self) -> f64 {
        self.matrix.macro_average().f1
    }

    /// The expected calibration error.
    pub fn ece(&self) -> f64 {
        self.calibration.ece
    }

    /// All sections.
    ///
    /// # Errors
    /// When an image cannot be encoded.
    pub fn sections(&self) -> Result<Markup> {
        Ok(html! {
            h2 { "Predictions" }
            p {
                "The network "
                @if let Some(epoch) = self.epoch { "after epoch " (epoch) " " }
                "on " (count(self.predictions.len(), "image")) " of the " (self.part) " part."
                @if self.unreadable > 0 { " " (count(self.unreadable, "image")) " could not be read." }
            }
            (self.summary())
            h2 { "Classes" }
            (self.classes())
            h2 { "Confusion matrix" }
            (self.confusion()?)
            h2 { "Calibration" }
            (self.calibration())
            h2 { "Images" }
            (self.images("Images with the largest loss", &self.predictions.worst(IMAGES))?)
            (self.images("Wrong predictions with the highest probability", &self.predictions.confident_mistakes(IMAGES))?)
        })
    }

    fn name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// Loss and top-k accuracies.
    fn summary(&self) -> Markup {
        let rows =
            [1, 2, 3, 5, 10].into_iter().filter(|&k| k == 1 || k < self.predictions.classes()).map(|k| {
                let name = if k == 1 { "accuracy".to_string() } else { format!("top-{k} accuracy") };
                vec![text(name), text(format!("{:.4}", top_k_accuracy(&self.predictions, k)))]
            });
        let loss = vec![text("mean cross-entropy"), text(format!("{:.4}", self.predictions.mean_loss()))];
        let ece = vec![text("expected calibration error"), text(format!("{:.4}", self.calibration.ece))];
        table(&["metric", "value"], true, rows.chain([loss, ece]))
    }

    /// Precision, recall and F1 score of each class.
    fn classes(&self) -> Markup {
        let row = |name: String, class: ClassMetrics| {
            let share = |value: f64| text(format!("{value:.4}"));
            vec![
                text(name),
                share(class.precision),
                share(class.recall),
                share(class.f1),
                text(class.support),
                text(class.predicted),
            ]
        };
        let classes = self.matrix.per_class().into_iter().enumerate();
        let occurring = classes.filter(|(_, class)| class.support + class.predicted > 0);
        let rows = occurring
            .map(|(i, class)| row(self.name(i), class))
            .chain([row("macro average".into(), self.matrix.macro_average())]);
        table(&["class", "precision", "recall", "F1 score", "images", "predicted"], true, rows)
    }

    fn confusion(&self) -> Result<Markup> {
        let classes = self.matrix.classes();
        if classes <= MAX_CLASSES {
            return Ok(html! {
                p { "Rows are the true classes, columns the predicted ones; the color is the share of the row." }
                (self.confusion_table())
            });
        }
        let image = data_uri(&confusion_image(&self.matrix)?)?;
        let pairs = self.matrix.most_confused(PAIRS).into_iter().map(|(truth, predicted, images)| {
            let share = images as f64 / self.matrix.support(truth).max(1) as f64;
            vec![
                text(self.name(truth)),
                text(self.name(predicted)),
                text(images),
                text(format!("{share:.4}")),
            ]
        });
        Ok(html! {
            p {
                "A field for each pair of " (classes) " classes: rows are the true ones, columns the predicted ones; the darker, the "
                "larger the share of the row."
            }
            img.plain src=(PreEscaped(image)) alt=(format!("Confusion matrix of {classes} classes"));
            h3 { "Most frequent confusions" }
            (table(&["class", "predicted as", "images", "share of the class"], true, pairs))
        })
    }

    fn confusion_table(&self) -> Markup {
        let classes = self.matrix.classes();
        html! {
            div.scroll tabindex="0" {
                table.confusion {
                    thead { tr { th scope="col" { "class" } @for class in 0..classes { th scope="col" title=(self.name(class)) { (short(&self.name(class))) } } } }
                    tbody {
                        @for truth in 0..classes {
                            @let support = self.matrix.support(truth).max(1) as f64;
                            tr {
                                th scope="row" title=(self.name(truth)) { (short(&self.name(truth))) }
                                @for predicted in 0..classes {
                                    @let images = self.matrix.count(truth, predicted);
                                    // At most 0.6, so that the number stays readable.
                                    @let share = format!("--share:{:.3}", 0.6 * images as f64 / support);
                                    td.diagonal[truth == predicted] style=[(images > 0).then_some(share)] {
                                        @if images > 0 { (images) } @else { "·" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn calibration(&self) -> Markup {
        let bins = self.calibration.bins.iter().filter(|bin| bin.images > 0);
        let chart = Chart::new("Accuracy by confidence", "confidence", "accuracy", AxisScale::Linear)
            .line("network", bins.clone().map(|bin| (bin.confidence, bin.accuracy)))
            .line("perfect calibration", [(0.0, 0.0), (1.0, 1.0)]);
        let n = self.calibration.bins.len();
        let rows =
            self.calibration.bins.iter().enumerate().filter(|(_, bin)| bin.images > 0).map(|(i, bin)| {
                let bounds = [i, i + 1].map(|bound| bound as f64 / n as f64);
                vec![
                    text(format!("{:.3} to {:.3}", bounds[0], bounds[1])),
                    text(bin.images),
                    text(format!("{:.4}", bin.confidence)),
                    text(format!("{:.4}", bin.accuracy)),
                ]
            });
        html! {
            p {
                "The confidence is the probability of the predicted class. The expected calibration error, with " (n) " bins, is "
                (format!("{:.4}", self.calibration.ece)) "."
            }
            div.charts {
                (figure("Accuracy of the images in each bin of confidence", &chart))
                (table(&["confidence", "images", "mean confidence", "accuracy"], true, rows))
            }
        }
    }

    fn images(&self, title: &str, images: &[usize]) -> Result<Markup> {
        let mut items = Vec::new();
        for &i in images {
            items.push(self.image(i)?);
        }
        Ok(html! {
            h3 { (title) }
            @if items.is_empty() { p { "There are none." } }
            ul.images { @for item in items { (item) } }
        })
    }

    fn image(&self, i: usize) -> Result<Markup> {
        let all = &self.predictions;
        let index = all.index(i);
        let (truth, predicted) = (self.name(all.label(i)), self.name(all.predicted(i)));
        let file = self.data.file(index).and_then(|(path, _)| path.file_name());
        let origin =
            file.map_or_else(|| format!("image {index}"), |name| name.to_string_lossy().into_owned());
        let shown = match self.shown(index) {
            Ok(image) => {
                let uri = data_uri(&image)?;
                html! { img src=(PreEscaped(uri)) alt=(format!("{origin}, {truth}")) loading="lazy"; }
            }
            Err(e) => html! { p { "The image cannot be shown: " (e) } },
        };
        Ok(html! {
            li {
                (shown)
                div { (truth) }
                @if all.is_correct(i) {
                    div { "correct, " (format!("{:.1} %", 100.0 * all.confidence(i))) }
                } @else {
                    div.wrong { (predicted) " " (format!("{:.1} %", 100.0 * all.confidence(i))) }
                }
                small { (origin) ", loss " (format!("{:.2}", all.loss(i))) }
            }
        })
    }

    /// The image as the network sees it, before it is normalized.
    fn shown(&self, index: usize) -> Result<RgbImage> {
        let mut image = ByteImage::default();
        self.data.read(index, &mut image)?;
        let pixels = self.preprocessing.apply(image, &mut ResizeCache::default())?.shown;
        let [c, h, w] = self.preprocessing.input;
        let image = match c {
            1 | 3 => Image::from_values(&pixels, [c, h, w])?,
            // The first channel stands for the others.
            _ => Image::normalized(
                pixels.get(..h * w).ok_or_else(|| Error::shape("the image has no channel"))?,
                [h, w],
            )?,
        };
        Ok(image.to_rgb(IMAGE_SIZE))
    }
}
