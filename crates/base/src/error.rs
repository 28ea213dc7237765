//! The error type of all crates: a kind, a message, and the path to the location of the error.
//!
//! The path grows as the error is propagated through the layers of a network:
//! `resnet / resnet_block2.0 / conv1 (Conv2d): the input has 64 channels, the weight expects 128`.
//! Invalid input is an error; a violated internal invariant panics.

use std::fmt;

/// Result with [`Error`] as the default error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kind of an [`Error`]: what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Incompatible shapes, or an image that is too small: change the shapes.
    Shape,
    /// An invalid value, such as a batch size of 0 or a learning rate of NaN: change the value.
    InvalidArgument,
    /// An unknown name: choose one of those in the message.
    NotFound,
    /// A missing or failed device: choose another, or install what the message names.
    Device,
    /// Memory that cannot be allocated: use smaller sizes, such as a smaller batch.
    OutOfMemory,
    /// A failed read or write of a file or connection.
    Io,
    /// Invalid data: a truncated or damaged file.
    Format,
    /// Divergence: a loss that is NaN or infinite.
    Diverged,
    /// Unexpected results: a failed comparison or check.
    Mismatch,
    /// A violated invariant of the library: please report it.
    Internal,
}

/// An error: its kind, its message and the path to its location.
///
/// It has the size of a pointer, which keeps `Result` small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Vec<String>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, path: Vec::new(), message: message.into(), source: None }))
    }

    /// Creates an error of the kind [`ErrorKind::Shape`].
    #[cold]
    pub fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    /// Creates an error of the kind [`ErrorKind::InvalidArgument`].
    #[cold]
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Creates an error of the kind [`ErrorKind::Format`].
    #[cold]
    pub fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    /// Creates an error of the kind [`ErrorKind::Device`].
    #[cold]
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Device, message)
    }

    /// Creates an error of the kind [`ErrorKind::OutOfMemory`].
    #[cold]
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::OutOfMemory, message)
    }

    /// Creates the error for a name that is not in `known`, with suggestions of similar names. `what` is the kind of the named object,
    /// such as "layer" or "network".
    #[cold]
    pub fn not_found<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let lower = name.to_lowercase();
        let mut near: Vec<(f64, &str)> =
            known.iter().map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), *k)).collect();
        near.retain(|(score, _)| *score > 0.75);
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let hint = match near.as_slice() {
            [] => format!("available: {}", known.join(", ")),
            some => {
                let names: Vec<String> = some.iter().take(3).map(|(_, k)| format!("`{k}`")).collect();
                format!("did you mean {}? Available: {}", names.join(" or "), known.join(", "))
            }
        };
        Self::new(ErrorKind::NotFound, format!("there is no {what} named `{name}`; {hint}"))
    }

    /// Creates an error of the kind [`ErrorKind::Io`] with a cause: `Error::io("cannot read data/x.gz", e)`.
    #[cold]
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).with_source(source)
    }

    /// Sets the cause, which is displayed after the message.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Adds a location to the path. The outermost location is added last and displayed first.
    #[must_use]
    pub fn context(mut self, location: impl Into<String>) -> Self {
        self.0.path.push(location.into());
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message, without path and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the locations of the path, the outermost first.
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

/// Adds locations to errors that are propagated.
pub trait Context<T> {
    /// As [`Error::context`], with a location that is only computed if there is an error.
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
    fn the_path_is_displayed_outermost_first() {
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
    fn similar_names_are_suggested() {
        let e = Error::not_found("network", "lenett", ["lenet", "lenet_bn", "resnet"]);
        let text = e.to_string();
        assert!(text.contains("did you mean `lenet`"), "{text}");
        assert!(Error::not_found("network", "zzz", ["lenet"]).to_string().contains("available: lenet"));
    }

    #[test]
    fn causes_are_displayed() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        assert_eq!(Error::io("cannot read x", io).to_string(), "cannot read x: no such file");
    }
}
