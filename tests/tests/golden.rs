//! All golden files on all devices, and errors that the runner must detect.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use neocog_base::testing::require;
use neocog_tensor::Device;
use neocog_tests::golden::{self, Report};

fn run_own(device: Device) -> Vec<Report> {
    let reports = golden::run_folder(&golden::own_folder(), &[device], |_| ()).unwrap();
    println!("{}", golden::table(&reports));
    reports
}

fn assert_all_pass(reports: &[Report]) {
    let names: Vec<&str> = reports.iter().map(|r| r.file.as_str()).collect();
    let networks = neocog_models::models_of(neocog_models::Family::Notes).unwrap();
    let mut expected: Vec<String> =
        networks.iter().flat_map(|m| [format!("{}.he", m.name), format!("{}.pt", m.name)]).collect();
    expected.retain(|name| name != "lenet_bn_scratch.he");
    expected.push("ops_public".into());
    expected.sort();
    assert_eq!(names, expected);
    for report in reports {
        assert!(report.is_right(), "{}", golden::table(reports));
    }
    let ops = reports.iter().find(|r| r.file == "ops_public").unwrap();
    assert_eq!(ops.tally.cases, 294, "289 cases of operations and 5 of dropout");
    assert!(reports.iter().filter(|r| r.kind == "network").all(|r| r.tally.cases >= 55));
}

#[test]
fn golden_values_on_the_cpu() {
    assert_all_pass(&run_own(Device::Cpu));
}

#[test]
fn golden_values_on_opencl() {
    let Some(device) = require("opencl", "opencl".parse::<Device>()) else { return };
    let Device::OpenCl(id) = device else { panic!("{device}") };
    let launches = || id.launches().unwrap().values().sum::<u64>();
    let before = launches();
    assert_all_pass(&run_own(device));
    // Every case of an operation launches at least one kernel, a training step hundreds.
    assert!(launches() - before > 5000, "{:?}", id.launches());
}

#[test]
fn golden_values_in_double_precision() {
    assert_all_pass(&run_own(Device::Reference));
}

/// A copy of a golden file whose JSON text is changed.
fn changed(folder: &Path, name: &str, change: impl Fn(&str) -> String) -> Report {
    let own = golden::own_folder();
    let text = std::fs::read_to_string(own.join(format!("{name}.json"))).unwrap();
    let new = change(&text);
    assert_ne!(text, new);
    std::fs::write(folder.join(format!("{name}.json")), new).unwrap();
    let tensors = format!("{name}.safetensors");
    std::fs::copy(own.join(&tensors), folder.join(&tensors)).unwrap();
    golden::run_file(&folder.join(format!("{name}.json")), name, &Device::Reference)
}

#[test]
fn wrong_values_and_fields_are_failures() {
    let dir = tempfile::tempdir().unwrap();
    let change = |name: &str, from: &str, to: &str| changed(dir.path(), name, |t| t.replacen(from, to, 1));
    let failed = |report: &Report, expected: &str| {
        assert!(!report.is_right());
        assert_eq!(report.tally.failures.len(), report.tally.cases - report.tally.passed);
        let all = golden::table(std::slice::from_ref(report));
        assert!(all.contains(expected), "{expected} is not in:\n{all}");
    };

    let report = change("ops_public", "\"op\": \"conv2d\"", "\"op\": \"conv3d\"");
    failed(&report, "did you mean `conv2d`");
    assert_eq!(report.tally.failures.len(), 1);
    failed(&change("ops_public", "\"groups\": 1", "\"groups\": 1, \"padding_mode\": 1"), "padding_mode");
    failed(&change("ops_public", "\"seed\": 10000", "\"seed\": 10001"), "expected");
    failed(&change("ops_public", "\"stride\"", "\"strides\""), "strides");
    failed(&change("ops_public", "\"name\": \"y\"", "\"name\": \"z\""), "ops_public");

    failed(&change("lenet.pt", "\"net\": \"lenet\"", "\"net\": \"lenett\""), "did you mean `lenet`");
    failed(&change("lenet.pt", "\"lr\": 0.05", "\"lr\": 0.051"), "sgd/param conv.0.weight");
    failed(&change("lenet.pt", "\"betas\": [0.9", "\"betas\": [0.8"), "adam/param");
    failed(&change("lenet.pt", "\"lr\": 0.05", "\"lr\": 0.05, \"lookahead\": 1"), "lookahead");
    failed(&change("lenet.pt", "\"name\": \"conv.2\"", "\"name\": \"conv.9\""), "train/act conv.9");
    failed(&change("lenet.pt", "\"name\": \"fc.0.weight\"", "\"name\": \"fc.7.weight\""), "fc.7.weight");
}

#[test]
fn invalid_files_are_failures() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let error = golden::run_folder(dir.path(), &[Device::Cpu], |_| ()).unwrap_err();
    assert!(error.to_string().contains("no golden file"), "{error}");
    assert!(golden::run_folder(&at("absent"), &[Device::Cpu], |_| ()).is_err());

    std::fs::write(at("other.json"), "{\"results\": []}").unwrap();
    assert!(golden::find_files(dir.path()).is_err(), "other JSON files are ignored");
    std::fs::write(at("alone.json"), "{\"suite\": \"alone\", \"cases\": []}").unwrap();
    std::fs::write(at("damaged.json"), "{").unwrap();
    std::fs::write(at("damaged.safetensors"), "not tensors").unwrap();
    std::fs::copy(golden::own_folder().join("ops_public.safetensors"), at("empty.safetensors")).unwrap();
    std::fs::write(at("empty.json"), "{\"suite\": \"empty\", \"cases\": []}").unwrap();
    let reports = golden::run_folder(dir.path(), &[Device::Cpu], |_| ()).unwrap();
    assert_eq!(reports.iter().map(|r| r.file.as_str()).collect::<Vec<_>>(), ["alone", "damaged", "empty"]);
    assert!(reports.iter().all(|r| !r.is_right()), "{}", golden::table(&reports));
}
