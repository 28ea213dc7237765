//! `import` of ONNX models: the network as JSON, and its weights.

use std::path::Path;

use neocog_tensor::Result;

#[cfg(not(feature = "onnx"))]
pub(super) fn import_onnx(_file: &Path, _to: &Path, _json: bool) -> Result<()> {
    Err(super::onnx_network::without_onnx())
}

#[cfg(feature = "onnx")]
pub(super) fn import_onnx(file: &Path, to: &Path, json: bool) -> Result<()> {
    use std::io::Write as _;

    use neocog_base::file::replace;
    use neocog_layers::{state, weights};
    use neocog_onnx::OnnxModel;
    use neocog_tensor::{Context as _, Device, Error, Shape};
    use neocog_train::{ModelFile, Recipe};

    use crate::output;

    if !to.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        return Err(Error::invalid_argument(format!(
            "{}: the network of an ONNX model is written as JSON; use a name that ends with .json",
            to.display()
        )));
    }
    let location = || file.display().to_string();
    let model = OnnxModel::read(file)?;
    let found = model.to_layers().context(location)?;
    let dims = model.inputs().first().and_then(|input| input.dims.as_deref());
    let Some(&[_, Some(c), Some(h), Some(w)]) = dims else {
        return Err(Error::invalid_argument(
            "the input of the model must be images [n, c, h, w] with fixed channels, height and width",
        ))
        .context(location);
    };
    let network = found.build(&Shape::new(&[1, c, h, w])?, &Device::Cpu).context(location)?;
    let weights_file = to.with_extension("safetensors");
    if weights_file.exists() && !to.exists() {
        return Err(Error::invalid_argument(format!(
            "the weights would replace {}, which is there already; choose another name or move it",
            weights_file.display()
        )));
    }
    let stem = to.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = ModelFile::new(stem, found.spec).with_recipe(Recipe::new().with_input([c, h, w])).to_json()?;
    weights::save_with_metadata(&*network, &weights_file, model.metadata())?;
    replace(to, |out| out.write_all(text.as_bytes()))
        .map_err(|e| Error::io(format!("cannot write {}", to.display()), e))?;
    let parameters = state::param_count(&*network);
    let (to, weights_file) = (to.display().to_string(), weights_file.display().to_string());
    if json {
        return output::json(
            &serde_json::json!({ "to": to, "weights": weights_file, "parameters": parameters }),
        );
    }
    output::line(format_args!(
        "wrote a network with {} parameters to {to}, and its weights to {weights_file}",
        output::thousands(parameters as u64)
    ))
}
