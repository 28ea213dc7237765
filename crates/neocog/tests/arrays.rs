//! `run`: networks on NumPy arrays, against the library.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use ndarray::{Array4, ArrayD, Axis};
use ndarray_npy::{read_npy, write_npy};
use neocog_layers::{Builder, Predictor, weights};
use neocog_tensor::Device;

fn run(folder: &Path, arguments: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neocog"));
    let output = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn images() -> Array4<f32> {
    Array4::from_shape_fn((3, 3, 32, 32), |(n, c, h, w)| ((n * 7 + c * 5 + h * 3 + w) % 11) as f32 / 11.0)
}

fn archive(arrays: &[(&str, &ArrayD<f32>)], method: zip::CompressionMethod) -> Vec<u8> {
    use ndarray_npy::WriteNpyExt as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, array) in arrays {
        zip.start_file(format!("{name}.npy"), stored).unwrap();
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Returns an .npy file of `<f4` with another type in its header.
fn with_type(file: &[u8], name: &[u8; 3]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let at = bytes.windows(3).position(|window| window == b"<f4").unwrap();
    bytes[at..at + 3].copy_from_slice(name);
    bytes
}

#[test]
fn arrays_give_what_the_library_gives() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let model = neocog_models::find("shufflenet_v2_x0_5").unwrap();
    let spec = model.spec_for([3, 32, 32], 7).unwrap();
    let network = Builder::new(&Device::Cpu, 5).build(&spec, &[1, 3, 32, 32].into()).unwrap();
    weights::save(&*network, &folder.join("w.safetensors")).unwrap();
    let x = images();
    let expected = Predictor::new(network).run_ndarray(x.view().into_dyn()).unwrap();
    assert_eq!(expected.shape(), [3, 7]);

    write_npy(folder.join("x.npy"), &x).unwrap();
    write_npy(folder.join("double.npy"), &x.mapv(f64::from)).unwrap();
    // Fortran order.
    let mut reversed = x.view().reversed_axes().as_standard_layout().into_owned();
    reversed.swap_axes(0, 3);
    reversed.swap_axes(1, 2);
    assert_eq!(reversed, x);
    write_npy(folder.join("fortran.npy"), &reversed).unwrap();
    let x = x.into_dyn();
    let stored = zip::CompressionMethod::Stored;
    fs::write(folder.join("one.npz"), archive(&[("images", &x)], stored)).unwrap();
    fs::write(folder.join("two.npz"), archive(&[("other", &x), ("input", &x)], stored)).unwrap();
    fs::write(folder.join("small.npz"), archive(&[("images", &x)], zip::CompressionMethod::Deflated))
        .unwrap();
    let little = fs::read(folder.join("x.npy")).unwrap();
    let data = little.len() - 4 * x.len();
    let mut big = little.clone();
    big[data..].chunks_exact_mut(4).for_each(<[u8]>::reverse);
    fs::write(folder.join("big.npy"), with_type(&big, b">f4")).unwrap();
    let network = "run shufflenet_v2_x0_5 --weights w.safetensors --classes 7";
    for input in
        ["x.npy", "input=x.npy", "double.npy", "fortran.npy", "one.npz", "two.npz", "small.npz", "big.npy"]
    {
        let (code, text) = run(folder, &format!("{network} --input {input} --output out"));
        assert_eq!(code, 0, "{input}: {text}");
        assert!(text.contains("wrote [3, 7] to out"), "{text}");
        let found: ArrayD<f32> = read_npy(folder.join("out/output.npy")).unwrap();
        assert_eq!(found, expected, "{input}");
        fs::remove_dir_all(folder.join("out")).unwrap();
    }
    // 1 and -0.5 in half precision.
    let halves: Vec<u8> = (0..x.len()).flat_map(|i| [0x3c00_u16, 0xb800][i % 2].to_le_bytes()).collect();
    let half = [&with_type(&little, b"<f2")[..data], halves.as_slice()].concat();
    fs::write(folder.join("half.npy"), half).unwrap();
    let mut i = 0;
    let floats = x.mapv(|_| {
        i += 1;
        [-0.5_f32, 1.0][i % 2]
    });
    write_npy(folder.join("floats.npy"), &floats).unwrap();
    let of = |input: &str| {
        let (code, text) = run(folder, &format!("{network} --input {input} --output out"));
        assert_eq!(code, 0, "{input}: {text}");
        read_npy::<_, ArrayD<f32>>(folder.join("out/output.npy")).unwrap()
    };
    assert_eq!(of("half.npy"), of("floats.npy"));
    let (code, text) =
        run(folder, &format!("{network} --input x.npy --output out --device reference --json"));
    assert_eq!(code, 0, "{text}");
    let exact: ArrayD<f64> = read_npy(folder.join("out/output.npy")).unwrap();
    let off = exact.iter().zip(&expected).fold(0.0, |a: f64, (e, f)| a.max((e - f64::from(*f)).abs()));
    assert!(off < 1e-4, "{off}");

    let mut damaged = fs::read(folder.join("one.npz")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(folder.join("damaged.npz"), damaged).unwrap();

    for (arguments, expected) in [
        ("run lenet --input damaged.npz --output out", "checksum"),
        (
            "run lenet --input x.npy --output out --weights w.safetensors",
            "the weights do not match the network",
        ),
        ("run nonet --input x.npy --output out", "nor does a checkpoint nonet exist"),
        ("run lenet --input missing.npy --output out", "missing.npy"),
        ("run lenet --input w.safetensors --output out", "not an .npy file"),
        ("run lenet --input image=x.npy --output out", "there is no input named `image`"),
        ("run lenet --input x.npy --input x.npy --output out", "the network has one input, but 2 were given"),
        ("run lenet --input flat.npy --output out", "the input"),
    ] {
        write_npy(folder.join("flat.npy"), &x.index_axis(Axis(0), 0).to_owned()).unwrap();
        let (code, text) = run(folder, arguments);
        assert!(code != 0 && text.contains(expected), "{arguments}: {text}");
    }
}
