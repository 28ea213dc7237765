//! The one error type of the project: a kind, a message, and the path to the place where it happened.
//!
//! A path grows as the error passes up through the layers of a network:
//! `resnet / resnet_block2.0 / conv1 (Conv2d): the input has 64 channels, the weight expects 128`.
//! Mistakes of the user are errors; broken internal promises panic.

use std::fmt;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller could do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes that do not fit together, or a picture that ran out: change the shapes.
    Shape,
    /// A value that is not allowed: a batch of 0, a learning rate that is NaN. Change the value.
    InvalidArgument,
    /// A name that is not known: choose one of those that the message offers.
    NotFound,
    /// A device that is missing or failed: choose another, or install what the message names.
    Device,
    /// A file or connection that could not be read or written.
    Io,
    /// Bytes that are not what they claim to be: a truncated or damaged file.
    Format,
    /// Numbers that ran away: a loss that became NaN or infinite.
    Diverged,
    /// Results that differ from what was expected: a failed comparison or check.
    Mismatch,
    /// A broken promise within the library: please report it.
    Internal,
}

/// An error with its kind, its message and the path to where it happened.
///
/// It is one pointer wide, so a `Result` costs nothing where all goes well.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Vec<String>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, path: Vec::new(), message: message.into(), source: None }))
    }

    /// Shapes that do not fit together.
    #[cold]
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    /// A value that is not allowed.
    #[cold]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// A file that is not what it claims to be.
    #[cold]
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    /// A device that is missing or failed.
    #[cold]
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, message)
    }

    /// A name that is not among `known`; names that look alike are offered.
    ///
    /// `what` says what was looked for, as in "layer" or "network".
    #[cold]
    pub fn not_found<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let lower = name.to_lowercase();
        let mut near: Vec<(f64, &str)> =
            known.iter().map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), *k)).collect();
        near.retain(|(score, _)| *score > 0.75);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let hint = match near.as_slice() {
            [] => format!("known are: {}", known.join(", ")),
            some => {
                let names: Vec<String> = some.iter().take(3).map(|(_, k)| format!("`{k}`")).collect();
                format!("did you mean {}? All that are known: {}", names.join(" or "), known.join(", "))
            }
        };
        Self::new(ErrorKind::NotFound, format!("there is no {what} named `{name}`; {hint}"))
    }

    /// An input or output error, with what was being done: `Error::io("cannot read data/x.gz", e)`.
    #[cold]
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).with_source(source)
    }

    /// Keeps `source` as the cause; it is printed after the message.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds a location to the path; the outermost is added last and printed first.
    #[must_use]
    pub fn context(mut self, location: impl Into<String>) -> Self {
        self.0.path.push(location.into());
        self
    }

    /// What a caller could do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message, without path and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The places passed on the way up, the outermost first.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        self.0.path.iter().rev().map(String::as_str)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            let path: Vec<&str> = self.path().collect();
            write!(f, "{}: ", path.join(" / "))?;
        }
        f.write_str(&self.0.message)?;
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(e) = cause {
            write!(f, ": {e}")?;
            cause = e.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} error: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Adds the location to an error on its way up.
pub trait Context<T> {
    /// As [`Error::context`], with a location that is only computed when there is an error.
    ///
    /// # Errors
    /// The error of `self`, with `location` at the front of its path.
    fn context<S: Into<String>>(self, location: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<S: Into<String>>(self, location: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.context(location()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_printed_outermost_first() {
        let e = Error::shape("the input has 64 channels, the weight expects 128")
            .context("conv1 (Conv2d)")
            .context("resnet_block2.0")
            .context("resnet");
        assert_eq!(
            e.to_string(),
            "resnet / resnet_block2.0 / conv1 (Conv2d): the input has 64 channels, the weight expects 128"
        );
        assert_eq!(e.kind(), ErrorKind::Shape);
    }

    #[test]
    fn an_unknown_name_offers_near_ones() {
        let e = Error::not_found("network", "lenett", ["lenet", "lenet_bn", "resnet"]);
        let text = e.to_string();
        assert!(text.contains("did you mean `lenet`"), "{text}");
        assert!(Error::not_found("network", "zzz", ["lenet"]).to_string().contains("known are: lenet"));
    }

    #[test]
    fn causes_are_printed() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        assert_eq!(Error::io("cannot read x", io).to_string(), "cannot read x: no such file");
    }
}
