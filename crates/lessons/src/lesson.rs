//! [`Lesson`] and the registry of all lessons.

use neocog_tensor::{Error, Result};

use crate::page::Page;

/// A lesson, registered with [`register_lesson!`](crate::register_lesson).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lesson {
    /// Position in the list of lessons, which goes from the basics to whole networks.
    pub order: u32,
    /// Name, as used on the command line.
    pub name: &'static str,
    /// One-line description.
    pub about: &'static str,
    run: fn(&mut Page<'_>) -> Result<()>,
}

impl Lesson {
    /// Creates a lesson; [`register_lesson!`](crate::register_lesson) calls this.
    pub const fn new(
        order: u32,
        name: &'static str,
        about: &'static str,
        run: fn(&mut Page<'_>) -> Result<()>,
    ) -> Self {
        Lesson { order, name, about, run }
    }

    /// Runs the lesson: prints, draws and checks on `page`.
    ///
    /// # Errors
    /// If a check fails, or if the lesson cannot compute, print or draw.
    pub fn run(&self, page: &mut Page<'_>) -> Result<()> {
        (self.run)(page)
    }
}

inventory::collect!(Lesson);

/// Registers a lesson: position, name, one-line description, and a function `fn(&mut Page<'_>) -> Result<()>`.
///
/// ```
/// use neocog_lessons::{Page, find, register_lesson};
///
/// fn run(page: &mut Page<'_>) -> neocog_tensor::Result<()> {
///     page.check("1 + 1 is 2", 1 + 1 == 2)
/// }
///
/// register_lesson!(1000, "addition", "how to add two numbers", run);
/// assert_eq!(find("addition").unwrap().about, "how to add two numbers");
/// ```
#[macro_export]
macro_rules! register_lesson {
    ($order:literal, $name:literal, $about:literal, $run:path) => {
        $crate::inventory::submit! { $crate::Lesson::new($order, $name, $about, $run) }
    };
}

/// Returns all registered lessons, in their recommended order.
pub fn lessons() -> Vec<&'static Lesson> {
    let mut lessons: Vec<&Lesson> = inventory::iter::<Lesson>.into_iter().collect();
    lessons.sort_by_key(|lesson| (lesson.order, lesson.name));
    lessons
}

/// Returns the lesson `name`.
///
/// # Errors
/// `NotFound`, with similar names.
pub fn find(name: &str) -> Result<&'static Lesson> {
    let lessons = lessons();
    let found = lessons.iter().find(|lesson| lesson.name == name);
    found.copied().ok_or_else(|| Error::not_found("lesson", name, lessons.iter().map(|lesson| lesson.name)))
}
