//! Terms that were replaced must not come back: names and phrases of the project's first version that an engineer of the
//! field would have to translate.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// A term as a regular expression, and what to say instead.
const REPLACED: [(&str, &str); 48] = [
    (r"\babreast\b", "batch_vectorized"),
    (r"Winograd's way|\benum Way\b|\bWay::", "the Winograd algorithm; ConvAlgorithm"),
    (r"\bunfolded\b|\bfolded\.rs\b", "im2col buffer, col2im"),
    (r"turned round|\bturns? (it|them|planes|rows) round", "transposed"),
    (r"\bstrips?\b", "transposed tile"),
    (r"\bPiece\b", "Run"),
    (r"\bcpu::Table\b|\bstruct Table<", "GatherMap"),
    (r"\bProblem\b", "ConvShape"),
    (r"\bcg\b|\bog\b", "in_per_group, out_per_group"),
    (r"\btakes_gaps\b|\bgaps\b", "supports_batch_stride, batch stride"),
    (r"\bKeeps::|: Keeps\b|\bkeeps_input\b", "SavedTensors, saves_input"),
    (r"\brun1\b|\bapply1\b", "run_single, apply_single"),
    (r"Grads::of\b|had no influence", "Grads::get, did not contribute to the loss"),
    (r"trait At\b|\bAt::at\b", "Context::context"),
    (r"ErrorKind::Argument\b|ErrorKind::Unknown\b", "InvalidArgument, NotFound"),
    (r"\bMoment\b", "ScheduleStep"),
    (r"\bSilent\b", "NoProgress"),
    (r"meter::Sums\b", "Totals"),
    (r"\bOptimizerRule\b|\benum Rule\b.*Sgd", "OptimizerKind"),
    (r"set_memory\b|optimizer_memory\b", "OptimizerState"),
    (r"Schedule::share|schedule\.share", "lr_factor"),
    (r"\bhits\b", "correct"),
    (r"Loaded::left", "skipped"),
    (r"\bBlocks::|trial\.fault", "TileConfig, error"),
    (r"\bChosen\b|\bWhich\b.*(struct|args)", "SelectedNetwork, NetworkArgs"),
    (r"(?i)\bpictures?\b", "image; feature map; figure"),
    (r"neocog_picture|crates/picture", "neocog_viz, crates/viz"),
    (r"suit_digits", "a recipe's overrides for a data set"),
    (r"as if it had never stopped|goes on with the same bits", "resumes bit for bit"),
    (r"are told apart|is told\b|tells nobody|tell(s)? the way", "reports, names, is an error that names"),
    (r"there is no memory for", "cannot allocate"),
    (r"is no (safetensors|file|checkpoint|picture|image|network)\b", "not a safetensors file"),
    (r"(?i)takes turns|in turns\b|by turns", "interleaved"),
    (r"they are\b.*(PyTorch|theirs)|they are.,$", "baseline, baseline is"),
    (r"change places", "invert; flip"),
    (
        r"(as|lanes of) (planes|pictures|channels|images) as lanes|(planes|pictures|channels) as lanes",
        "vectorized over planes, images, channels",
    ),
    (r"(?i)the book's recipe|\bbook's\b", "the recipe of \"Dive into Deep Learning\""),
    (r"(?i)\bproved?s?\b|\bproven\b|\bproofs?\b", "verified, checked, tested"),
    (r"hands? (over|in)\b|handed (over|in)\b", "passes, passed in"),
    (
        r"(?i)files that are forever|are forever|considered and not done",
        "stable file formats; rejected alternatives",
    ),
    (r"\bnobody\b|\banybody\b", "say who or what does not"),
    (r"(?i)only so many of", "the first N"),
    (r"how often all (training )?images", "number of epochs"),
    (r"\bpictured\b|abreast\.cl", "see above"),
    (
        r"(?i)licence|greyscale|\bgrey\b|neighbour|behaviour|colour|labelled|modelled|\bcentred?\b|favour",
        "US spelling: license, gray, neighbor, behavior, color, labeled, center",
    ),
    (
        r"(?i)(normal|serial|initial|special|summar|general|vector|minim|recogn|optim)is(e|ing|ation|er)s?\b",
        "US spelling: -ize",
    ),
    (r"\b1 (epochs|images|batches|tensors|threads)\b", "1 epoch: neocog_base::text::count"),
    (
        r"cargo xtask (train|eval|predict|bench|summary|data|export|import|spec|lesson|devices|tune|layers)",
        "neocog COMMAND, outside of README and xtask",
    ),
];

/// Where a replaced term is right, and why: part of a path, the term, the reason.
const EXPLAINED: [(&str, &str, &str); 17] = [
    ("tests/tests/words.rs", "", "this list"),
    ("CHANGELOG.md", "", "the table of renames"),
    ("crates/cli", "--picture", "the option's name is a stable interface"),
    ("crates/neocog/tests", "--picture", "the option's name is a stable interface"),
    ("README.md", "--picture", "the option's name is a stable interface"),
    ("README.md", "cargo xtask", "the two commands of a clone"),
    ("xtask/", "cargo xtask", "the maintainers' program"),
    ("CONTRIBUTING.md", "cargo xtask", "maintainers work in a clone"),
    ("crates/cli/src/commands/predict.rs", "picture", "the field of the option --picture"),
    ("crates/models", "with_stored_about", "what JSON files of 0.1 contain"),
    ("crates/cli/src/commands/summary.rs", "rename = \"centre\"", "a field of printed JSON"),
    ("tests/src/golden", "optimisers", "a field of the golden files"),
    ("crates/neocog/tests/bench.rs", "--threads 1 threads", "the name of a command after a number"),
    ("crates/lessons", "random_tensor(\"picture", "the name of a random stream decides its values"),
    ("tests/src/training.rs", "Random::stream", "the name of a random stream decides its values"),
    ("tests/tests/registry.rs", "there is no network named", "plain English"),
    ("crates/data/src/transform/color.rs", "turns of the color circle", "the unit of the hue"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All texts that a person reads, from the root on.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() {
            if !name.starts_with('.')
                && !["target", "specs", "golden", "structures", "data", "runs"].contains(&name.as_str())
                || entry.ends_with("crates/data")
            {
                texts(&entry, found);
            }
        } else if [".rs", ".cl", ".md", ".toml", ".py"].iter().any(|end| name.ends_with(end)) {
            found.push(entry);
        }
    }
}

#[test]
fn replaced_terms_are_gone() {
    let terms: Vec<(Regex, &str)> =
        REPLACED.iter().map(|(term, instead)| (Regex::new(term).unwrap(), *instead)).collect();
    let mut files = Vec::new();
    texts(&root(), &mut files);
    files.sort();
    assert!(files.len() > 200, "only {} files were found", files.len());
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap().display().to_string().replace('\\', "/");
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let explained =
                EXPLAINED.iter().any(|(path, part, _)| name.contains(path) && line.contains(part));
            for (term, instead) in &terms {
                if let Some(hit) = term.find(line).filter(|_| !explained) {
                    found.push(format!(
                        "{name}:{}: `{}`: say {instead}: {}",
                        number + 1,
                        hit.as_str(),
                        line.trim()
                    ));
                }
            }
        }
    }
    println!("{}", found.join("\n"));
    assert!(found.is_empty(), "{} replaced terms:\n{}", found.len(), found.join("\n"));
}
