//! `run` of ONNX models.

#[cfg(not(feature = "onnx"))]
pub(super) use absent::run_onnx;
#[cfg(feature = "onnx")]
pub(super) use present::run_onnx;

#[cfg(not(feature = "onnx"))]
mod absent {
    use std::path::Path;

    use neocog_tensor::{Device, Result};

    use crate::commands::onnx_network::without_onnx;

    pub fn run_onnx(
        _file: &Path,
        _inputs: &[&str],
        _output: &Path,
        _device: &Device,
        _json: bool,
    ) -> Result<()> {
        Err(without_onnx())
    }
}

#[cfg(feature = "onnx")]
mod present {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use neocog_base::file::check_distinct;
    use neocog_onnx::import::ModelInput;
    use neocog_onnx::proto::DataType;
    use neocog_onnx::{OnnxModel, OnnxOutput, OnnxSession, f32_to_half};
    use neocog_tensor::{Context as _, Device, Error, Result, Tensor};
    use serde::Serialize;

    use crate::{array, output};

    #[derive(Serialize)]
    struct JsonRow<'a> {
        network: String,
        outputs: Vec<JsonOutput<'a>>,
    }

    #[derive(Serialize)]
    struct JsonOutput<'a> {
        name: &'a str,
        shape: &'a [usize],
        r#type: &'static str,
        file: String,
    }

    /// Runs a model on arrays: each of `inputs` is a file, with the name of the input before it if there are several.
    pub fn run_onnx(file: &Path, inputs: &[&str], folder: &Path, device: &Device, json: bool) -> Result<()> {
        let location = || file.display().to_string();
        let model = OnnxModel::read(file)?;
        let tensors = read_inputs(&model, inputs, device).context(location)?;
        let session = OnnxSession::new(model, device).context(location)?;
        let outputs = session.run(&tensors).context(location)?;
        fs::create_dir_all(folder)
            .map_err(|e| Error::io(format!("cannot create the directory {}", folder.display()), e))?;
        let mut names = HashSet::new();
        let mut rows = Vec::with_capacity(outputs.len());
        for output in &outputs {
            let name = file_name(&output.name);
            if !names.insert(name.clone()) {
                return Err(Error::invalid_argument(format!("two outputs would have the file {name}.npy")));
            }
            let path = folder.join(format!("{name}.npy"));
            for input in inputs {
                check_distinct(Path::new(input.rsplit_once('=').map_or(*input, |(_, path)| path)), &path)?;
            }
            write(output, &path, device)?;
            output::not_finite(&output.name, &output.tensor)?;
            rows.push(JsonOutput {
                name: &output.name,
                shape: output.tensor.shape().extents(),
                r#type: output.data_type.name(),
                file: path.display().to_string(),
            });
        }
        if json {
            return output::json(&JsonRow { network: file.display().to_string(), outputs: rows });
        }
        rows.iter().try_for_each(|row| {
            output::line(format_args!("wrote {} {:?} to {}", row.name, row.shape, row.file))
        })
    }

    /// Returns the name of an output as that of a file: without what separates folders.
    fn file_name(name: &str) -> String {
        let valid = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = name.chars().map(valid).collect();
        if name.starts_with('.') { format!("_{name}") } else { name }
    }

    fn read_inputs(model: &OnnxModel, given: &[&str], device: &Device) -> Result<Vec<Tensor>> {
        let expected = model.inputs();
        let mut files: Vec<Option<&str>> = vec![None; expected.len()];
        for text in given {
            let named = expected.iter().position(|input| {
                text.strip_prefix(input.name.as_str()).is_some_and(|rest| rest.starts_with('='))
            });
            let (at, path) = match named {
                Some(at) => (at, &text[expected[at].name.len() + 1..]),
                None if expected.len() == 1 && Path::new(text).exists() => (0, *text),
                None => return Err(unknown(text, expected)),
            };
            if files[at].replace(path).is_some() {
                return Err(Error::invalid_argument(format!(
                    "the input {} is given twice",
                    expected[at].name
                )));
            }
        }
        expected.iter().zip(files).map(|(input, file)| read_input(input, file, device)).collect()
    }

    fn unknown(text: &str, expected: &[ModelInput]) -> Error {
        let names: Vec<&str> = expected.iter().map(|input| input.name.as_str()).collect();
        match text.rsplit_once('=') {
            Some((name, _)) => Error::not_found("input", name, names),
            None if names.len() == 1 => Error::invalid_argument(format!("the file {text} does not exist")),
            None => Error::invalid_argument(format!(
                "the model has the inputs {}; say which one {text} is: --input NAME={text}",
                names.join(", ")
            )),
        }
    }

    fn read_input(input: &ModelInput, file: Option<&str>, device: &Device) -> Result<Tensor> {
        let name = &input.name;
        let Some(file) = file else {
            return Err(Error::invalid_argument(format!("the input {name} is missing: --input {name}=FILE")));
        };
        let found = array::read(Path::new(file), name, device)?;
        if found.type_name != input.data_type.name() {
            return Err(Error::invalid_argument(format!(
                "{file}: the input {name} is of type {}, the array of {}; use .astype(numpy.{})",
                input.data_type.name(),
                found.type_name,
                input.data_type.name()
            )));
        }
        Ok(found.tensor)
    }

    /// Writes an output in its type; on the reference device, floats are doubles.
    fn write(output: &OnnxOutput, path: &Path, device: &Device) -> Result<()> {
        let shape = output.tensor.shape();
        macro_rules! integers {
            ($number:ty) => {{
                let values = output.tensor.to_f64()?;
                array::write(
                    path,
                    shape.extents(),
                    values.into_iter().map(|value| value as $number).collect(),
                )
            }};
        }
        match output.data_type {
            DataType::Bool => {
                let values = output.tensor.to_f32()?;
                array::write(path, shape.extents(), values.into_iter().map(|value| value != 0.0).collect())
            }
            DataType::Int8 => integers!(i8),
            DataType::Int16 => integers!(i16),
            DataType::Int32 => integers!(i32),
            DataType::Int64 => integers!(i64),
            DataType::Uint8 => integers!(u8),
            DataType::Uint16 => integers!(u16),
            DataType::Uint32 => integers!(u32),
            DataType::Uint64 => integers!(u64),
            DataType::Double => array::write(path, shape.extents(), output.tensor.to_f64()?),
            _ if *device == Device::Reference => array::write(path, shape.extents(), output.tensor.to_f64()?),
            DataType::Float16 => {
                let bits: Vec<u16> = output.tensor.to_f32()?.into_iter().map(f32_to_half).collect();
                array::write_half(path, shape, &bits)
            }
            _ => array::write(path, shape.extents(), output.tensor.to_f32()?),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn outputs_stay_in_the_folder() {
            assert_eq!(file_name("logits"), "logits");
            assert_eq!(file_name("../a/b:0"), "_.._a_b_0");
        }
    }
}
