//! The invariants of ARCHITECTURE.md that concern the structure: dependencies point down only, between crates and between
//! the directories of a crate, and no files of a crate depend on each other in a circle.
//!
//! It reads manifests and sources: paths in `use` declarations and in expressions, followed through re-exports to the file
//! that defines the name. Test code is left out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod graph;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use graph::Graph;

/// The crates from top to bottom; a crate may depend on those below it.
const CRATES: [&str; 20] = [
    "xtask",
    "neocog-benches",
    "neocog-tests",
    "neocog",
    "neocog-cli",
    "neocog-lessons",
    "neocog-insight",
    "neocog-bench",
    "neocog-train",
    "neocog-models",
    "neocog-onnx",
    "neocog-layers",
    "neocog-autograd",
    "neocog-graph",
    "neocog-tensor",
    "neocog-opencl-loader",
    "neocog-data",
    "neocog-viz",
    "neocog-base",
    // Reserved for crates to come.
    "neocog-plugin-example",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The directories of all crates of the workspace.
fn crate_folders() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> =
        crates.chain(["xtask", "tests", "benches"].map(|name| root().join(name))).collect();
    folders.sort();
    folders
}

/// Dependencies between the crates of the workspace, those of their tests left out.
fn crate_graph() -> Graph {
    let mut graph = Graph::default();
    for folder in crate_folders() {
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap();
        graph.add_node(name);
        for table in ["dependencies", "build-dependencies"] {
            let names =
                manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
            names.filter(|other| other.starts_with("neocog")).for_each(|other| graph.add(name, other));
        }
    }
    graph
}

/// Fails for arrows that do not point from an earlier to a later name of `order`.
fn assert_points_down(graph: &Graph, order: &[&str], of: &str) {
    let place = |name: &str| {
        order
            .iter()
            .position(|other| *other == name)
            .unwrap_or_else(|| panic!("{of}: {name} has no place in the order"))
    };
    let wrong: Vec<String> = graph
        .arrows()
        .filter(|(from, to)| place(from) >= place(to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    assert!(wrong.is_empty(), "{of}: dependencies that point up: {wrong:#?}");
}

#[test]
fn crates_depend_on_crates_below_them_only() {
    let graph = crate_graph();
    println!("{graph}");
    assert_points_down(&graph, &CRATES, "the workspace");
    for (of, not) in [
        ("neocog-data", ["neocog-tensor", "neocog-layers"]),
        ("neocog-viz", ["neocog-tensor", "neocog-layers"]),
    ] {
        let below = graph.below(of);
        assert!(
            not.iter().all(|other| !below.contains(*other)),
            "{of} must not need {not:?}, it needs {below:?}"
        );
    }
}

/// The directories of `tensor` from top to bottom; a file may depend on files of directories below its own.
///
/// `testing` is below `ops` because every operation registers its cases there. `core` is above `opencl` because a `Call` has
/// shapes, while the runtime knows only buffers, programs and launches. `opencl` is above `cpu` because it generates kernels
/// from formulas on the `Real` numbers of `cpu/simd`.
const TENSOR_FOLDERS: [&str; 7] = ["", "ops", "testing", "core", "opencl", "cpu", "memory"];

#[test]
fn folders_of_tensor_depend_on_folders_below_them_only() {
    let files = source::file_graph(&root().join("crates/tensor"));
    let folder = |file: &str| file.split_once('/').map_or("", |(folder, _)| folder).to_string();
    let mut graph = Graph::default();
    for (from, to) in files.arrows().filter(|(from, to)| folder(from) != folder(to)) {
        graph.add(&folder(from), &folder(to));
    }
    println!("{graph}");
    assert_points_down(&graph, &TENSOR_FOLDERS, "tensor");
}

#[test]
fn no_files_of_a_crate_depend_on_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for folder in crate_folders() {
        let graph = source::file_graph(&folder);
        let name = folder.strip_prefix(root()).unwrap().display().to_string();
        for circle in graph.circles() {
            circles.push(format!("{name}: {}", graph.describe(&circle)));
        }
    }
    assert!(circles.is_empty(), "files in circles:\n{}", circles.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let long: BTreeSet<String> = crate_folders()
        .iter()
        .flat_map(|folder| source::files(folder))
        .filter(|file| fs::read_to_string(file).unwrap().lines().count() > 650)
        .map(|file| file.display().to_string())
        .collect();
    assert!(long.is_empty(), "files of more than 650 lines: {long:#?}");
}
