//! Commands and their registry: a program knows every command of the crates that are linked into it.

use std::fmt;
use std::process::ExitCode;

use clap::ArgMatches;
use neocog_base::Result;
use neocog_base::registry::{self, Registered};

/// A command, registered with [`register_command!`](crate::register_command).
#[derive(Clone, Copy)]
pub struct CommandEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// Crate that registered it.
    pub crate_name: &'static str,
    /// Position in the list of commands: smallest first, then by name.
    pub order: usize,
    /// Builds the clap command with its arguments.
    pub build: fn() -> clap::Command,
    /// Parses the arguments and runs the command.
    pub run: fn(&ArgMatches) -> Result<ExitCode>,
}

inventory::collect!(CommandEntry);

impl fmt::Debug for CommandEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandEntry")
            .field("name", &self.name)
            .field("crate_name", &self.crate_name)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// Registers a command: its name, its position in the list of commands, its arguments (a type that implements
/// [`clap::Args`], whose doc comment is the help text), and the function that runs it (`fn(&Args) -> Result<()>`, or
/// `Result<ExitCode>` for other exit codes).
///
/// With `build COMMAND, with matches` at the end, a function (`fn() -> clap::Command`) builds the clap command in place of the type
/// alone, and the function that runs it also gets the [`ArgMatches`], which know what was given on the command line.
///
/// The crate needs no dependency on clap: [`neocog_cli::clap`](crate::clap) is the version that neocog uses. The program must
/// link the crate: `use my_crate as _;`.
///
/// ```
/// use neocog_cli::{clap, output};
///
/// /// Print a greeting.
/// #[derive(clap::Args)]
/// struct Greet {
///     /// Name of the person.
///     name: String,
/// }
///
/// fn greet(args: &Greet) -> neocog_base::Result<()> {
///     output::line(format_args!("Hello, {}!", args.name))
/// }
///
/// neocog_cli::register_command!("greet", 1000, Greet, greet);
///
/// assert!(neocog_cli::commands().unwrap().iter().any(|command| command.name == "greet"));
/// ```
#[macro_export]
macro_rules! register_command {
    ($name:literal, $order:expr, $args:ty, $run:path) => {
        $crate::register_command!(
            @submit $name, $order, $args,
            || <$args as $crate::clap::Args>::augment_args($crate::clap::Command::new($name)),
            |args, _| $run(args)
        );
    };
    ($name:literal, $order:expr, $args:ty, $run:path, build $build:path, with matches) => {
        $crate::register_command!(@submit $name, $order, $args, $build, |args, matches| $run(args, matches));
    };
    (@submit $name:literal, $order:expr, $args:ty, $build:expr, |$parsed:ident, $matches:tt| $run:expr) => {
        $crate::inventory::submit! {
            $crate::CommandEntry {
                name: $name,
                crate_name: env!("CARGO_PKG_NAME"),
                order: $order,
                build: $build,
                run: |matches| {
                    let args = <$args as $crate::clap::FromArgMatches>::from_arg_matches(matches)
                        .unwrap_or_else(|e| e.exit());
                    let run = |$parsed: &$args, $matches: &$crate::clap::ArgMatches| $run;
                    run(&args, matches).map($crate::IntoExitCode::into_exit_code)
                },
            }
        }
    };
}

/// Return value of a command's function: `()` for success, or an exit code.
pub trait IntoExitCode {
    /// The exit code of the process.
    fn into_exit_code(self) -> ExitCode;
}

impl IntoExitCode for () {
    fn into_exit_code(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl IntoExitCode for ExitCode {
    fn into_exit_code(self) -> ExitCode {
        self
    }
}

impl Registered for CommandEntry {
    const NOUN: &'static str = "command";
    fn name(&self) -> &'static str {
        self.name
    }
    fn crate_name(&self) -> &'static str {
        self.crate_name
    }
}

/// Returns all commands that are linked in, in the order in which help lists them.
///
/// # Errors
/// When two commands have the same name; the message names their crates.
pub fn commands() -> Result<Vec<CommandEntry>> {
    let by_name = registry::by_name(inventory::iter::<CommandEntry>.into_iter().copied())?;
    let mut commands: Vec<CommandEntry> = by_name.into_values().collect();
    commands.sort_by_key(|command| command.order);
    Ok(commands)
}
