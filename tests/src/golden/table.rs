//! Reports as tables and as JSON.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::json;

use super::Report;

/// Formats a table of reports, followed by notes and failures.
pub fn table(reports: &[Report]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["file", "kind", "device", "cases", "passed", "worst", "where"]);
    for report in reports {
        let tally = &report.tally;
        table.add_row([
            report.file.clone(),
            report.kind.to_string(),
            report.device.to_string(),
            tally.cases.to_string(),
            tally.passed.to_string(),
            ratio(tally.worst),
            tally.worst_at.clone(),
        ]);
    }
    for column in [3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let (cases, passed) = reports.iter().fold((0, 0), |(c, p), r| (c + r.tally.cases, p + r.tally.passed));
    let mut text = format!(
        "{table}\n{passed} of {cases} cases passed; worst: the largest error relative to its tolerance\n"
    );
    for report in reports {
        for note in &report.tally.notes {
            text += &format!("{} on {}: {note}\n", report.file, report.device);
        }
    }
    for report in reports.iter().filter(|r| !r.is_right()) {
        text += &format!("\n{} on {}:\n", report.file, report.device);
        if report.tally.cases == 0 {
            text += "  nothing was compared\n";
        }
        for failure in &report.tally.failures {
            text += &format!("  {failure}\n");
        }
    }
    text
}

/// Formats a report as one line of JSON.
pub fn json_line(report: &Report) -> String {
    let tally = &report.tally;
    let failures: Vec<String> = tally.failures.iter().map(ToString::to_string).collect();
    json!({
        "file": report.file,
        "device": report.device.to_string(),
        "cases": tally.cases,
        "passed": tally.passed,
        "kind": report.kind,
        "worst": if tally.worst.is_finite() { json!(tally.worst) } else { json!(null) },
        "worst_at": tally.worst_at,
        "failures": failures,
        "notes": tally.notes,
    })
    .to_string()
}

fn ratio(worst: f64) -> String {
    if worst == 0.0 {
        "0".into()
    } else if (0.01..1000.0).contains(&worst) {
        format!("{worst:.2}")
    } else {
        format!("{worst:.0e}")
    }
}
