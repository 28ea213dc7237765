//! `summary` of ONNX models.

use std::path::Path;

use neocog_tensor::Result;

#[cfg(not(feature = "onnx"))]
pub(super) fn summary_onnx(_file: &Path, _input: Option<[usize; 3]>, _json: bool) -> Result<()> {
    Err(super::onnx_network::without_onnx())
}

/// Prints the nodes of a model.
#[cfg(feature = "onnx")]
pub(super) fn summary_onnx(file: &Path, input: Option<[usize; 3]>, json: bool) -> Result<()> {
    use neocog_tensor::{Context as _, Device};

    use super::onnx_network::{input_of, read_network};
    use crate::output::{self, thousands};

    let location = || file.display().to_string();
    let network = read_network(file, &Device::Cpu)?;
    let input = input_of(&network, input).context(location)?;
    let rows = network.rows(input).context(location)?;
    let model = network.model();
    let macs = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.multiply_adds));
    let [c, h, w] = input;
    let shape = [network.input()[0].unwrap_or(1), c, h, w];
    if json {
        let layer = |row: &neocog_onnx::import::OnnxRow| {
            serde_json::json!({
                "name": row.name,
                "kind": row.operator,
                "output": row.output.extents(),
                "parameters": row.parameters,
                "macs": row.multiply_adds,
            })
        };
        return output::json(&serde_json::json!({
            "name": file.display().to_string(),
            "input": shape,
            "opset": model.opset(),
            "parameters": model.parameters(),
            "macs": macs,
            "layers": rows.iter().map(layer).collect::<Vec<_>>(),
        }));
    }
    output::line(format_args!("{}: ONNX of opset {}; input {shape:?}", file.display(), model.opset()))?;
    let mut table: Vec<[String; 5]> = rows
        .into_iter()
        .map(|row| {
            let parameters = thousands(row.parameters as u64);
            [row.name, row.operator, row.output.to_string(), parameters, thousands(row.multiply_adds)]
        })
        .collect();
    let [total, empty] = ["total".to_string(), String::new()];
    table.push([total, empty.clone(), empty, thousands(model.parameters() as u64), thousands(macs)]);
    let head = ["name", "operator", "output", "parameters", "multiply-adds"];
    output::line(output::table(head, [false, false, false, true, true], table))
}
