//! Checks of the files that a command writes, before its work starts.

use std::path::Path;

use neocog_base::file::{check_distinct, check_output_file, declare_output, is_same};
use neocog_tensor::{Error, Result};
use neocog_train::CheckpointDir;

/// Checks that `outputs` can be written: none is one of the `inputs`, another output, or a file of a
/// training run. What is read afterwards, such as the files of a data set, is checked when it is opened.
///
/// # Errors
/// `InvalidArgument` if one is, or is a directory.
pub fn check<'a>(
    inputs: impl IntoIterator<Item = &'a Path> + Clone,
    outputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let outputs: Vec<&Path> = outputs.into_iter().collect();
    for (i, output) in outputs.iter().enumerate() {
        check_output_file(output)?;
        inputs.clone().into_iter().try_for_each(|input| check_distinct(input, output))?;
        if outputs[..i].iter().any(|other| other == output || is_same(other, output)) {
            return Err(Error::invalid_argument(format!(
                "{} would be written twice; choose a file for each output",
                output.display()
            )));
        }
        check_not_of_run(output)?;
    }
    // What is read from now on must be none of them.
    outputs.iter().for_each(|output| declare_output(output));
    Ok(())
}

/// Checks that a path is none of the files that a training has written to its directory and needs.
///
/// # Errors
/// `InvalidArgument` if it is.
fn check_not_of_run(path: &Path) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_kept = name.starts_with("epoch-") && name.ends_with(".ckpt");
    let is_of_run = is_kept || CheckpointDir::FILES.contains(&&*name);
    let is_run = || {
        let parent = path.parent().unwrap_or(Path::new(""));
        [CheckpointDir::LAST, CheckpointDir::BEST].iter().any(|name| parent.join(name).exists())
    };
    if is_of_run && path.exists() && is_run() {
        return Err(Error::invalid_argument(format!(
            "{} is a file of a training run; choose another name",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;

    use super::*;

    #[test]
    fn what_is_needed_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let message = |inputs: &[&str], outputs: &[&str]| {
            let [inputs, outputs] =
                [inputs, outputs].map(|all| all.iter().map(|n| path(n)).collect::<Vec<_>>());
            let result = check(inputs.iter().map(|p| p.as_path()), outputs.iter().map(|p| p.as_path()));
            result.map_or_else(|e| e.to_string(), |()| "ok".to_string())
        };
        fs::write(path("config.toml"), "").unwrap();
        fs::write(path("in.png"), "").unwrap();
        fs::create_dir(path("new")).unwrap();
        assert_eq!(message(&["in.png"], &["config.toml", "new/out.png"]), "ok");
        assert!(message(&["in.png"], &["in.png"]).contains("is the file that is read"));
        assert!(message(&["in.png"], &["a.png", "a.png"]).contains("would be written twice"));
        assert!(message(&[], &["new"]).contains("it is a directory"));
        fs::write(path("last.ckpt"), "").unwrap();
        for name in ["last.ckpt", "config.toml"] {
            assert!(message(&[], &[name]).contains("is a file of a training run"), "{name}");
        }
        assert_eq!(message(&[], &["best.ckpt"]), "ok");
        assert_eq!(message(&[], &["report.html"]), "ok");
    }
}
