//! Commands with files: networks as JSON, weights as safetensors, and errors in either.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A temporary directory in which commands run.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; `'` stands for `"`.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text.replace('\'', "\"")).unwrap();
    }

    fn run(&self, command: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_neocog"))
            .args(command.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// The standard output of a successful command.
    fn output(&self, command: &str) -> String {
        let output = self.run(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON object that a successful command prints.
    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.output(command)).unwrap()
    }

    /// The error message of a failing command: exit code 1, and no standard output.
    fn error(&self, command: &str) -> String {
        self.failure(command, 1)
    }

    /// The message of a command that is not valid: exit code 2, and no standard output.
    fn usage_error(&self, command: &str) -> String {
        self.failure(command, 2)
    }

    fn failure(&self, command: &str, code: i32) -> String {
        let output = self.run(command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {stderr}");
        assert!(output.stdout.is_empty(), "{command}");
        assert!(!stderr.contains("panicked"), "{command}: {stderr}");
        stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>().join("\n")
    }
}

/// A multilayer perceptron for inputs of 1x8x8.
const SMALL: &str = "{'kind': 'Sequential', 'layers': [
    {'name': 'flatten', 'layer': {'kind': 'Flatten'}},
    {'name': 'fc1', 'layer': {'kind': 'Linear', 'in_features': 64, 'out_features': 20}},
    {'name': 'relu', 'layer': {'kind': 'ReLU'}},
    {'name': 'fc2', 'layer': {'kind': 'Linear', 'in_features': 20, 'out_features': 10}}]}";

#[test]
fn checkpoints_do_not_need_the_network_file() {
    let folder = Folder::new();
    folder.write("my_net.json", SMALL);
    let epoch = folder.json("train --spec my_net.json --limit 320 --epochs 1 --json");
    assert_eq!(epoch["epoch"], 1);
    fs::remove_file(folder.path("my_net.json")).unwrap();

    // The checkpoint contains the network; its directory is named after the network and the data set.
    let last = "runs/my_net-digits/last.ckpt";
    let stdout = folder.output(&format!("train --resume {last} --epochs 30"));
    assert!(stdout.contains("epoch 30/30"), "{stdout}");
    let line = folder.json(&format!("eval {last} --json"));
    assert_eq!((&line["network"], &line["data"]), (&"my_net".into(), &"digits".into()));
    assert!(line["acc"].as_f64().unwrap() > 0.6, "{line}");
}

#[test]
fn options_override_the_recipe_of_a_network_file() {
    let folder = Folder::new();
    let network = SMALL.replace("64", "16");
    folder.write("a.json", &format!("{{'name': 'tiny', 'recipe': {{'input': [1, 4, 4], 'batch': 8, 'learning_rate': 0.05, 'optimizer': 'sgd'}}, 'network': {network}}}"));
    let run = |command: &str| String::from_utf8(folder.run(command).stderr).unwrap();
    let stderr = run("train --spec a.json --limit 16 --epochs 1");
    assert!(
        stderr.contains(
            "tiny on digits: 16 training and 16 test images, 1 epoch, batch 8, sgd with learning rate 0.05"
        ),
        "{stderr}"
    );
    let stderr = run("train --spec a.json --limit 16 --epochs 1 --batch 4 --lr 0.5 --optimizer adam");
    assert!(stderr.contains("batch 4, adam with learning rate 0.5"), "{stderr}");
    // A file without a recipe needs --input, unless the input has the shape of the images.
    folder.write("bare.json", &network);
    assert!(folder.error("train --spec bare.json --limit 16").contains("fc1 (Linear)"));
    folder.output("train --spec bare.json --limit 16 --epochs 1 --input 1x4x4 --out bare");
    assert!(folder.path("bare/best.ckpt").exists());
    let summary = folder.output("summary --spec bare.json --input 1x4x4");
    assert!(summary.starts_with("bare; input [1, 1, 4, 4]\n"), "{summary}");
    assert!(folder.error("summary --spec bare.json").contains("such as --input 1x28x28"));
    assert_eq!(folder.json("summary --spec a.json --json")["name"], "tiny");
}

#[test]
fn a_registered_network_equals_its_file() {
    let folder = Folder::new();
    let text = folder.output("spec lenet");
    assert!(text.starts_with("{\n  \"name\": \"lenet\",\n  \"about\": "), "{text}");
    assert_eq!(folder.output("spec lenet --to a.json"), "wrote lenet to a.json\n");
    assert_eq!(fs::read_to_string(folder.path("a.json")).unwrap(), text);
    assert_eq!(folder.output("summary --spec a.json"), folder.output("summary lenet"));
    let pytorch = "--style pytorch";
    assert_eq!(
        folder.output(&format!("summary --spec a.json {pytorch}")),
        folder.output(&format!("summary lenet {pytorch}"))
    );
    let epoch = |network: &str| {
        let mut line = folder.json(&format!("train {network} --limit 32 --epochs 1 --batch 16 --lr 0.002 --augment none --schedule constant --json --out out --overwrite"));
        line["seconds"] = 0.into();
        line["images_per_s"] = 0.into();
        line
    };
    assert_eq!(epoch("--spec a.json"), epoch("lenet"), "the same network and the same bits");
    folder.output("spec vgg_small --input 3x64x64 --classes 7 --to vgg.json");
    let line = folder.json("summary --spec vgg.json --json");
    assert_eq!(line, {
        let mut same = folder.json("summary vgg_small --input 3x64x64 --classes 7 --json");
        same["name"] = "vgg_small".into();
        same
    });
}

/// A trained LeNet.
fn trained(folder: &Folder) {
    folder.output("train lenet_bn --limit 64 --epochs 1 --out run");
}

#[test]
fn weights_are_exported_and_imported() {
    let folder = Folder::new();
    trained(&folder);
    let line = folder.json("export run/last.ckpt --to w.safetensors --json");
    assert_eq!((&line["tensors"], &line["parameters"]), (&30.into(), &44_878.into()));
    let stdout = folder.output("export run/last.ckpt --to w.safetensors");
    assert_eq!(stdout, "wrote 30 tensors of lenet_bn with 44,878 parameters to w.safetensors\n");

    let eval = |what: &str| {
        let mut line = folder.json(&format!("eval {what} --json"));
        line["images_per_s"] = 0.into();
        line
    };
    let from_checkpoint = eval("run/last.ckpt");
    let from_weights = eval("--network lenet_bn --weights w.safetensors --data digits");
    // That training was limited to 64 images does not limit the evaluation.
    assert_eq!((&from_weights["images"], &from_checkpoint["images"]), (&360.into(), &360.into()));
    folder.output("import w.safetensors --network lenet_bn --data digits --to imported.ckpt");
    let imported = eval("imported.ckpt");
    assert_eq!(imported, from_weights);
    assert_eq!(from_checkpoint, from_weights);

    // With a network file in place of a name.
    folder.output("spec lenet_bn --to spec.json");
    assert_eq!(eval("--spec spec.json --weights w.safetensors --data digits"), imported);

    // Training continues from the checkpoint and from the weights.
    folder.output("train --resume imported.ckpt --epochs 1 --out on");
    let line = folder.json("train lenet_bn --weights w.safetensors --limit 64 --epochs 1 --out on-2 --json");
    let fresh = folder.json("train lenet_bn --limit 64 --epochs 1 --out on-3 --json");
    assert!(line["train_loss"].as_f64() < fresh["train_loss"].as_f64(), "{line} {fresh}");
}

#[test]
fn export_lists_skipped_buffers() {
    let folder = Folder::new();
    folder.output("train lenet_bn_scratch --limit 16 --epochs 1 --out run");
    let output = folder.run("export run/last.ckpt --to w.safetensors");
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with(
            "skipped non-persistent buffers, which PyTorch's state_dict does not contain: 1.moving_mean, "
        ),
        "{stderr}"
    );
}

#[test]
fn images_are_classified_with_weights() {
    let folder = Folder::new();
    trained(&folder);
    folder.output("export run/last.ckpt --to w.safetensors");
    image::GrayImage::from_fn(28, 28, |x, _| image::Luma([if x.abs_diff(14) < 3 { 255 } else { 0 }]))
        .save(folder.path("one.png"))
        .unwrap();
    let from_checkpoint = folder.json("predict run/last.ckpt one.png --json");
    let weights = "predict --network lenet_bn --weights w.safetensors one.png --json";
    assert_eq!(folder.json(&format!("{weights} --data digits")), from_checkpoint);
    // The exported file holds the names of the classes.
    assert_eq!(folder.json(weights), from_checkpoint);
    // Without them and without a data set, classes have numbers.
    without_metadata(&folder.path("w.safetensors"));
    let line = folder.json(weights);
    let class = format!("class {}", from_checkpoint["class"].as_str().unwrap());
    assert_eq!(line["class"], class.as_str());
    assert_eq!(line["probability"], from_checkpoint["probability"]);
    assert!(folder.usage_error("predict run/last.ckpt").contains("no images given"));
}

/// Removes the metadata of a safetensors file; spaces fill the header.
fn without_metadata(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert!(header.as_object_mut().unwrap().remove("__metadata__").is_some());
    let text = format!("{:length$}", header.to_string());
    bytes[8..8 + length].copy_from_slice(text.as_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn matching_weights_of_another_network_are_loaded() {
    let folder = Folder::new();
    trained(&folder);
    folder.output("export run/last.ckpt --to w.safetensors");
    let error = folder.error("train lenet --weights w.safetensors --limit 16 --epochs 1");
    assert!(error.starts_with("error: w.safetensors: the weights do not match the network:\n  conv.0.weight [6, 1, 5, 5] is missing\n"), "{error}");
    // A few lines, and how many more there are.
    assert!(error.contains("\n  and 7 more that are missing in the file\n"), "{error}");
    assert!(
        error.contains("\n  0.bias [6] is not in the network\n")
            && error.contains("\n  and 27 more that are not in the network")
            && error.trim_end().lines().count() == 9,
        "{error}"
    );
    let error = folder.error("train lenet --weights w.safetensors --partial --limit 16 --epochs 1");
    assert!(error.contains("no tensor of it matches the network"), "{error}");

    // The same network with another number of classes: all but the last layer match.
    let other = "--network lenet_bn --classes 12";
    let error = folder.error(&format!("import w.safetensors {other} --data digits --to x.ckpt"));
    assert_eq!(
        error,
        "error: w.safetensors: the weights do not match the network:\n  \
         15.weight is [10, 84], the network has [12, 84]\n  15.bias is [10], the network has [12]"
    );
    assert!(!folder.path("x.ckpt").exists());
    let line =
        folder.json(&format!("import w.safetensors {other} --data digits --to x.ckpt --partial --json"));
    assert_eq!(line["loaded"], 28);
    assert_eq!(line["left"].as_array().unwrap().len(), 2);
    folder.output("eval x.ckpt");
    let output = folder
        .run("train lenet_bn --classes 12 --weights w.safetensors --partial --limit 16 --epochs 1 --out y");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.starts_with("loaded 28 tensors from w.safetensors\nnot loaded:\n  15.weight is [10, 84]"),
        "{stderr}"
    );
}

#[test]
fn errors_in_network_files_have_a_path() {
    let folder = Folder::new();
    let within = |layer: &str| {
        format!(
            "{{'kind': 'Sequential', 'layers': [{{'name': 'resnet_block2', 'layer': {{'kind': 'Sequential', 'layers': [
              {{'name': '0', 'layer': {{'kind': 'Residual', 'body': [{{'name': 'conv1', 'layer': {layer}}}]}}}}]}}}}]}}"
        )
    };
    let conv =
        |fields: &str| within(&format!("{{'kind': 'Conv2d', 'in_channels': 1, 'kernel_size': 3{fields}}}"));
    let path = "error: a.json / resnet_block2 (Sequential) / 0 (Residual) / conv1 ";
    for (text, expected) in [
        (within("{'kind': 'Conv2D'}"), format!("{path}(Conv2D): there is no layer named `Conv2D`; did you mean `Conv2d`")),
        (conv(""), format!("{path}(Conv2d): missing field `out_channels`")),
        (conv(", 'out_chanels': 1"), format!("{path}(Conv2d): out_chanels: unknown field `out_chanels`, expected one of")),
        (conv(", 'out_channels': 1, 'padding': -1"), format!("{path}(Conv2d): padding: expected a non-negative integer or a pair of them")),
        (conv(", 'out_channels': 1"), "error: a.json / resnet_block2 (Sequential) / 0 (Residual): the output of the body is [1, 1, 26, 26], but that of the shortcut is [1, 1, 28, 28]".into()),
        (conv(", 'out_channels': 1, 'groups': 2"), format!("{path}(Conv2d): groups = 2 must divide in_channels = 1")),
        (within("{'kind': 'Linear', 'in_features': 3, 'out_features': 3}"), format!("{path}(Linear)")),
        ("[]".into(), "error: a.json: a network is an object with a".into()),
        ("{'kind': 'ReLU'".into(), "error: a.json: not a network in JSON: EOF while parsing an object at line 1 column 15".into()),
        (format!("{}{}", "{'kind': 'Sequential', 'layers': [{'layer': ".repeat(50_000), "}]}".repeat(50_000)), "error: a.json: not a network in JSON: recursion limit exceeded at line 1".into()),
        ("{'recipe': {'bach': 3}, 'network': {'kind': 'ReLU'}}".into(), "recipe.bach: unknown field `bach`".into()),
        (SMALL.replace("20", "21").replacen("21", "20", 1), "error: a.json / fc2 (Linear)".into()),
    ] {
        folder.write("a.json", &text);
        for command in ["train --spec a.json --input 1x28x28 --limit 16 --epochs 1", "summary --spec a.json --input 1x28x28"] {
            let input = if text.contains("fc2") { command.replace("1x28x28", "1x8x8") } else { command.into() };
            let error = folder.error(&input);
            assert!(error.contains(&expected), "{expected} is not in: {error}");
        }
    }
    // Numbers that are too large.
    let huge = "1099511627776";
    for (text, expected) in [
        (
            format!("{{'recipe': {{'input': [1, {huge}, {huge}]}}, 'network': {{'kind': 'ReLU'}}}}"),
            "recipe.input: 1 x ",
        ),
        (
            "{'recipe': {'input': [1, 0, 8]}, 'network': {'kind': 'ReLU'}}".into(),
            "recipe.input: 1 x 0 x 8 is not a valid image shape",
        ),
        (
            format!("{{'kind': 'Linear', 'in_features': {huge}, 'out_features': {huge}}}"),
            "the number of elements of the shape",
        ),
        (
            "{'kind': 'Linear', 'in_features': 100000000, 'out_features': 100000000}".into(),
            "linear: the input has 8 features, the weight expects 100000000",
        ),
        (
            "{'kind': 'Linear', 'in_features': 8, 'out_features': 1000000000000}".into(),
            "the parameters of the network take 32.7 TiB, and this process can have ",
        ),
        (
            format!("{{'kind': 'Conv2d', 'in_channels': {huge}, 'out_channels': 1, 'kernel_size': {huge}}}"),
            "the number of elements of the shape",
        ),
        (
            format!("{{'kind': 'BatchNorm2d', 'num_features': {huge}}}"),
            "the input has 1 channel, the layer expects 1099511627776",
        ),
        (
            "{'kind': 'MaxPool2d', 'kernel_size': 18446744073709551615}".into(),
            "the image is smaller than the window",
        ),
    ] {
        folder.write("a.json", &text);
        let error = folder.error("train --spec a.json --limit 16");
        assert!(
            error.starts_with("error: a.json") && error.contains(expected),
            "{expected} is not in: {error}"
        );
    }
    // The output does not have a number per class.
    folder.write("a.json", "{'kind': 'Flatten'}");
    assert!(
        folder
            .error("train --spec a.json --input 1x3x3 --limit 16")
            .contains("error: a.json: the output of the network for one image is [1, 9], but the 10 classes of digits (train) need [1, 10]")
    );
    assert!(
        folder
            .error("train --spec none.json")
            .starts_with("error: cannot read the network none.json: No such file")
    );
    assert!(folder.error("train --spec .").contains("not a network in JSON"));
    assert!(
        folder
            .usage_error("train --spec a.json --classes 3")
            .contains("--classes is for registered networks")
    );
    assert!(folder.error("spec lenett").contains("did you mean `lenet`"));
    assert!(
        folder
            .error("spec lenet --to none/a.json")
            .starts_with("error: cannot write the network to none/a.json")
    );
    assert!(folder.error("spec alexnet --input 1x28x28").contains("alexnet / conv (Sequential) / "));
}

#[test]
fn invalid_weight_files_are_rejected() {
    let folder = Folder::new();
    trained(&folder);
    folder.output("export run/last.ckpt --to w.safetensors");
    let whole = fs::read(folder.path("w.safetensors")).unwrap();
    let header = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 8]].concat();
    let lie = |shape: &str, offsets: &str| {
        header(&format!(
            "{{\"0.weight\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}"
        ))
    };
    for (bytes, expected) in [
        (
            lie("[1125899906842624]", "[0,4503599627370496]"),
            "the header describes 4503599627370496 bytes of elements, found 8: it is truncated or damaged",
        ),
        (lie("[1152921504606846976]", "[0,8]"), "not a safetensors file: its header is invalid: "),
        (lie("[2]", "[4,12]"), "invalid offset for tensor `0.weight`"),
        (
            [&(1u64 << 62).to_le_bytes()[..], b"{}"].concat(),
            "its first bytes specify a header of 4611686018427387904 bytes, but the rest of the file has 2 bytes",
        ),
        (header("{\"a\": \u{e9}"), "its header is invalid"),
        (whole[..whole.len() - 1].to_vec(), "it is truncated or damaged"),
        (fs::read(folder.path("run/last.ckpt")).unwrap(), "it is a neocog checkpoint"),
        (b"no weights, but a text".to_vec(), "it has another format or is truncated"),
        (Vec::new(), "it has 0 bytes"),
    ] {
        fs::write(folder.path("bad.safetensors"), bytes).unwrap();
        for command in [
            "eval --network lenet_bn --weights bad.safetensors --data digits",
            "train lenet_bn --weights bad.safetensors --partial --out z",
            "import bad.safetensors --network lenet_bn --data digits --to z.ckpt",
        ] {
            let error = folder.error(command);
            assert!(
                error.starts_with("error: bad.safetensors: ") && error.contains(expected),
                "{expected}: {error}"
            );
        }
    }
    assert!(!folder.path("z").exists() && !folder.path("z.ckpt").exists());
    let eval = "eval --network lenet_bn --data digits --weights";
    assert!(
        folder
            .error(&format!("{eval} none"))
            .starts_with("error: cannot read the weights none: No such file")
    );
    assert!(folder.error(&format!("{eval} .")).contains("it is not a regular file"));
    for (command, expected) in [
        ("eval", "error: the following required arguments were not provided:\n  <CHECKPOINT>\n"),
        ("eval run/last.ckpt --spec x.json", "error: the argument '[CHECKPOINT]' cannot be used with"),
        (
            "eval run/last.ckpt --weights w.safetensors --network lenet_bn",
            "error: the argument '[CHECKPOINT]' cannot be used with",
        ),
        (
            "eval --weights w.safetensors --data digits",
            "error: no network given; use --network NAME or --spec FILE\n",
        ),
        ("eval --weights w.safetensors --network lenet_bn", "error: no data set given; use --data NAME\n"),
    ] {
        let error = folder.usage_error(command);
        assert!(error.starts_with(expected), "{command}: {error}");
    }
    assert!(folder.error("export w.safetensors --to x").contains("not a neocog checkpoint"));
    assert!(
        folder
            .error("export run/last.ckpt --to none/x")
            .starts_with("error: cannot write the weights to none/x")
    );
    assert!(!Path::new("none").exists());
}

#[test]
fn outputs_are_checked_before_any_work() {
    let folder = Folder::new();
    trained(&folder);
    folder.write("file", "x");
    let (is_dir, is_file) =
        ("it is a directory; add the name of a file", "it is a file, but a directory is needed");
    for (command, expected) in [
        ("man file", is_file),
        ("data --export file", is_file),
        ("data --export file/below", "file is a file, not a directory"),
        ("data --show --out .", is_dir),
        ("lesson edges --out file", is_file),
        ("bench sizes lenet --plot file", is_file),
        ("export run/last.ckpt --to .", is_dir),
        ("spec lenet --to .", is_dir),
        // Before the missing file of weights is noticed.
        ("import none --network lenet --data digits --to .", is_dir),
        ("predict run/last.ckpt none.png --picture .", is_dir),
        ("train --out file", is_file),
    ] {
        let error = folder.error(command);
        assert!(
            error.starts_with("error: cannot write to ") && error.contains(expected),
            "{command}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{command}: {error}");
    }
    assert_eq!(fs::read_to_string(folder.path("file")).unwrap(), "x");
}

#[test]
fn files_of_predict_are_checked() {
    let folder = Folder::new();
    trained(&folder);
    folder.write("text.txt", "no image");
    folder.write("text.png", "no image");
    for (name, expected) in [
        // A list of files.
        ("text.txt", "error: cannot read the image no image: "),
        ("text.png", "error: text.png: not an image in JPEG, PNG, "),
    ] {
        let error = folder.error(&format!("predict run/last.ckpt {name}"));
        assert!(error.starts_with(expected), "{error}");
        let error = folder.error(&format!("predict {name} run/last.ckpt"));
        assert!(error.contains("not a neocog checkpoint: "), "{error}");
        assert!(
            error.ends_with("; the first file must be a checkpoint or an ONNX model, the others are images"),
            "{error}"
        );
    }
    assert!(folder.usage_error("predict run/last.ckpt text.png --top 0").contains("at least 1"));
}

#[cfg(unix)]
#[test]
fn printed_commands_are_quoted() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let program = folder.path("my neocog");
    symlink(env!("CARGO_BIN_EXE_neocog"), &program).unwrap();
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder.0.path()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let error = run(&program, &["train", "--data", "mnist", "--data-dir", "my data"]);
    let command = format!("download it: '{}' fetch-data mnist --dir 'my data'\n", program.display());
    assert!(error.ends_with(&command), "{error}");
    assert!(run(&program, &["--help"]).contains("\n  'my neocog' train "));
    for arguments in [["completions", "bash"], ["man", "pages"]] {
        let error = run(&program, &arguments);
        assert!(error.contains("a program called 'my neocog' cannot have completions"), "{error}");
    }
    let renamed = folder.path("nc-2");
    symlink(env!("CARGO_BIN_EXE_neocog"), &renamed).unwrap();
    let script = run(&renamed, &["completions", "bash"]);
    assert!(script.starts_with("_nc__2() {") && script.trim_end().ends_with("fi"), "{script}");
    assert!(script.contains(" default nc-2\n"), "{script}");
    let error = run(&renamed, &["bench", "convolutions", "--device", "reference"]);
    let command = format!("run: {} bench ops --filter conv2d --device reference\n", renamed.display());
    assert!(error.ends_with(&command), "{error}");
}

#[test]
fn unknown_values_of_variables_are_usage_errors() {
    let folder = Folder::new();
    let output = Command::new(env!("CARGO_BIN_EXE_neocog"))
        .args(["train", "lenet"])
        .env("NEOCOG_CONV", "wino")
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.starts_with("error: NEOCOG_CONV: there is no convolution algorithm named `wino`"),
        "{error}"
    );
    assert!(!folder.path("runs").exists());
}

#[test]
fn conflicting_options_are_usage_errors() {
    let folder = Folder::new();
    for command in [
        "train lenet --spec a.json",
        "train --resume a.ckpt --weights w.safetensors",
        "train --resume a.ckpt --spec a.json",
        "train lenet --partial",
        "eval",
        "eval --weights w.safetensors --network lenet",
        "predict a.ckpt b.png --data digits",
        "import w.safetensors --network lenet --to x.ckpt",
        "summary lenet --classes 0",
        "summary lenet --input 28x28",
    ] {
        assert_eq!(folder.run(command).status.code(), Some(2), "{command}");
    }
}

#[test]
fn stochastic_depth_is_for_residual_blocks() {
    let folder = Folder::new();
    let error = folder.error("train lenet --epochs 1 --stochastic-depth 0.2 --out run");
    assert!(error.contains("--stochastic-depth: the network has no residual blocks"), "{error}");
    let error = folder.error("train lenet --epochs 1 --stochastic-depth 2 --out run");
    assert!(error.contains("the probability must be from 0 to 1, not 2"), "{error}");
    let block = "{'kind':'Residual','body':[{'name':'fc','layer':{'kind':'Linear','in_features':64,'out_features':64}}]}";
    let flat = "{'name':'flat','layer':{'kind':'Flatten'}}";
    let head = "{'name':'head','layer':{'kind':'Linear','in_features':64,'out_features':10}}";
    let layers = format!("[{flat},{{'name':'block','layer':{block}}},{head}]");
    folder.write(
        "net.json",
        &format!("{{'name':'net','network':{{'kind':'Sequential','layers':{layers}}},'recipe':{{'input':[1,8,8]}}}}"),
    );
    folder
        .output("train --spec net.json --data digits --epochs 1 --limit 64 --stochastic-depth 0.5 --out run");
    folder.output("export run/last.ckpt --to weights.safetensors");
    folder.output("eval --spec net.json --weights weights.safetensors --data digits");
    folder.output("train --resume run/last.ckpt --epochs 2");
}
