//! What there is to know about convolutional networks, as short programs that print and draw.
//!
//! Each lesson is a file of its own, to be read beside its output: `neocog lesson NAME`. It uses the crates as anyone
//! would. What it says it also checks ([`Page::near`], [`Page::equal`], [`Page::holds`]): a lesson that is wrong ends with an
//! error, so the tests need only run them.

mod activations;
mod batch_norm;
mod channels;
mod convolution;
mod dense;
mod dropout;
mod edges;
mod feature_maps;
mod help;
mod page;
mod pooling;
mod receptive_field;
mod residual;
mod shapes;

use neocog_tensor::{Error, Result};

pub use page::{Options, Page};

/// A lesson.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    /// The name that users type.
    pub name: &'static str,
    /// One line on what it shows.
    pub about: &'static str,
    /// Prints, checks and draws.
    pub run: fn(&mut Page<'_>) -> Result<()>,
}

/// All lessons, in the order in which they are best read.
pub static LESSONS: [Lesson; 12] = [
    Lesson {
        name: "convolution",
        about: "cross-correlation and true convolution: the kernel turned by half a circle",
        run: convolution::run,
    },
    Lesson {
        name: "edges",
        about: "finding edges with a kernel made by hand, and with one that is learned",
        run: edges::run,
    },
    Lesson {
        name: "shapes",
        about: "what kernel, padding and stride make of a picture's size, and flattening",
        run: shapes::run,
    },
    Lesson {
        name: "channels",
        about: "many channels in and out; a 1x1 convolution is a linear layer over channels",
        run: channels::run,
    },
    Lesson {
        name: "pooling",
        about: "max and average pooling, what they forgive, and global average pooling",
        run: pooling::run,
    },
    Lesson {
        name: "receptive_field",
        about: "how much of the picture a number has seen, layer by layer",
        run: receptive_field::run,
    },
    Lesson {
        name: "feature_maps",
        about: "what the layers of a trained network make of a picture",
        run: feature_maps::run,
    },
    Lesson {
        name: "activations",
        about: "sigmoid against relu: what is left of the gradient many layers down",
        run: activations::run,
    },
    Lesson {
        name: "dropout",
        about: "what dropout drops, keeps, and leaves alone in prediction",
        run: dropout::run,
    },
    Lesson {
        name: "batch_norm",
        about: "batch normalisation by hand, equal to the layers in output, statistics and gradients",
        run: batch_norm::run,
    },
    Lesson {
        name: "residual",
        about: "shortcuts: why a deep network with them still learns in its first layers",
        run: residual::run,
    },
    Lesson {
        name: "dense",
        about: "dense blocks: channels that are kept and grow, and the transition that cuts them",
        run: dense::run,
    },
];

/// The lesson called `name`.
///
/// # Errors
/// When there is none; near names are offered.
pub fn find(name: &str) -> Result<&'static Lesson> {
    LESSONS
        .iter()
        .find(|lesson| lesson.name == name)
        .ok_or_else(|| Error::not_found("lesson", name, LESSONS.iter().map(|lesson| lesson.name)))
}
