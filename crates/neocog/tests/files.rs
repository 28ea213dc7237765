//! The command line with files: networks as JSON, weights as safetensors, and what is wrong with either.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to run in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
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

    /// What a command that succeeds says on standard output.
    fn output(&self, command: &str) -> String {
        let output = self.run(command);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The only line of JSON that a command says on standard output.
    fn json(&self, command: &str) -> Value {
        serde_json::from_str(&self.output(command)).unwrap()
    }

    /// The error of a command: on standard error with exit code 1, and nothing on standard output.
    fn error(&self, command: &str) -> String {
        let output = self.run(command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(output.stdout.is_empty(), "{command}");
        assert!(!stderr.contains("panicked"), "{command}: {stderr}");
        stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<Vec<_>>().join("\n")
    }
}

/// One hidden layer for the digits as they are, 8x8.
const SMALL: &str = "{'kind': 'Sequential', 'layers': [
    {'name': 'flatten', 'layer': {'kind': 'Flatten'}},
    {'name': 'fc1', 'layer': {'kind': 'Linear', 'in_features': 64, 'out_features': 20}},
    {'name': 'relu', 'layer': {'kind': 'ReLU'}},
    {'name': 'fc2', 'layer': {'kind': 'Linear', 'in_features': 20, 'out_features': 10}}]}";

#[test]
fn a_network_of_a_file_is_trained_and_then_stands_alone() {
    let place = Place::new();
    place.write("my_net.json", SMALL);
    let epoch = place.json("train --spec my_net.json --limit 320 --epochs 1 --json");
    assert_eq!(epoch["epoch"], 1);
    fs::remove_file(place.path("my_net.json")).unwrap();

    // The checkpoint holds the network; the folder has its name and that of the data.
    let last = "runs/my_net-digits/last.ckpt";
    let stdout = place.output(&format!("train --resume {last} --epochs 30"));
    assert!(stdout.contains("epoch 30/30"), "{stdout}");
    let line = place.json(&format!("eval {last} --json"));
    assert_eq!((&line["network"], &line["data"]), (&"my_net".into(), &"digits".into()));
    assert!(line["acc"].as_f64().unwrap() > 0.6, "{line}");
}

#[test]
fn a_recipe_and_flags_say_how_a_network_of_a_file_is_trained() {
    let place = Place::new();
    let network = SMALL.replace("64", "16");
    place.write("a.json", &format!("{{'name': 'tiny', 'recipe': {{'input': [1, 4, 4], 'batch': 8, 'learning_rate': 0.05, 'optimizer': 'sgd'}}, 'network': {network}}}"));
    let run = |command: &str| String::from_utf8(place.run(command).stderr).unwrap();
    let said = run("train --spec a.json --limit 16 --epochs 1");
    assert!(
        said.contains(
            "tiny on digits: 16 training and 16 test images, 1 epochs, batch 8, sgd with learning rate 0.05"
        ),
        "{said}"
    );
    let said = run("train --spec a.json --limit 16 --epochs 1 --batch 4 --lr 0.5 --optimizer adam");
    assert!(said.contains("batch 4, adam with learning rate 0.5"), "{said}");
    // A bare network needs its input's size where it is not that of the data.
    place.write("bare.json", &network);
    assert!(place.error("train --spec bare.json --limit 16").contains("fc1 (Linear)"));
    place.output("train --spec bare.json --limit 16 --epochs 1 --input 1x4x4 --out bare");
    assert!(place.path("bare/best.ckpt").exists());
    let summary = place.output("summary --spec bare.json --input 1x4x4");
    assert!(summary.starts_with("bare; input [1, 1, 4, 4]\n"), "{summary}");
    assert!(place.error("summary --spec bare.json").contains("say it: --input 1x28x28"));
    assert_eq!(place.json("summary --spec a.json --json")["name"], "tiny");
}

#[test]
fn a_registered_network_is_written_as_a_file_and_is_the_same() {
    let place = Place::new();
    let text = place.output("spec lenet");
    assert!(text.starts_with("{\n  \"name\": \"lenet\",\n  \"about\": "), "{text}");
    assert_eq!(place.output("spec lenet --to a.json"), "wrote lenet to a.json\n");
    assert_eq!(fs::read_to_string(place.path("a.json")).unwrap(), text);
    assert_eq!(place.output("summary --spec a.json"), place.output("summary lenet"));
    let pytorch = "--style pytorch";
    assert_eq!(
        place.output(&format!("summary --spec a.json {pytorch}")),
        place.output(&format!("summary lenet {pytorch}"))
    );
    let epoch = |network: &str| {
        let mut line = place.json(&format!("train {network} --limit 32 --epochs 1 --json --out out"));
        line["seconds"] = 0.into();
        line["images_per_s"] = 0.into();
        line
    };
    let as_stated = epoch("lenet --batch 256 --lr 0.001");
    assert_eq!(epoch("--spec a.json"), as_stated, "a file that states its recipe gets it, on the digits too");
    place.output("spec vgg_small --input 3x64x64 --classes 7 --to vgg.json");
    let line = place.json("summary --spec vgg.json --json");
    assert_eq!(line, {
        let mut same = place.json("summary vgg_small --input 3x64x64 --classes 7 --json");
        same["name"] = "vgg_small".into();
        same
    });
}

/// A trained LeNet.
fn trained(place: &Place) {
    place.output("train lenet_bn --limit 64 --epochs 1 --out run");
}

#[test]
fn weights_go_out_and_come_back() {
    let place = Place::new();
    trained(&place);
    let line = place.json("export run/last.ckpt --to w.safetensors --json");
    assert_eq!((&line["tensors"], &line["parameters"]), (&30.into(), &44_878.into()));
    let said = place.output("export run/last.ckpt --to w.safetensors");
    assert_eq!(said, "wrote 30 tensors of lenet_bn with 44,878 parameters to w.safetensors\n");

    let eval = |what: &str| {
        let mut line = place.json(&format!("eval {what} --json"));
        line["images_per_s"] = 0.into();
        line
    };
    let from_checkpoint = eval("run/last.ckpt");
    let mut from_weights = eval("--network lenet_bn --weights w.safetensors --data digits");
    // The run was limited to the first 64 test images; weights know nothing of it.
    assert_eq!(from_weights["images"], 360);
    place.output("import w.safetensors --network lenet_bn --data digits --to imported.ckpt");
    let imported = eval("imported.ckpt");
    assert_eq!(imported, from_weights);
    from_weights["images"] = 64.into();
    assert_eq!(from_checkpoint["images"], 64);

    // With the spec in place of the name.
    place.output("spec lenet_bn --to spec.json");
    assert_eq!(eval("--spec spec.json --weights w.safetensors --data digits"), imported);

    // Trained on, from a checkpoint and from the weights.
    place.output("train --resume imported.ckpt --epochs 1 --out on");
    let line = place.json("train lenet_bn --weights w.safetensors --limit 64 --epochs 1 --out on --json");
    let fresh = place.json("train lenet_bn --limit 64 --epochs 1 --out on --json");
    assert!(line["train_loss"].as_f64() < fresh["train_loss"].as_f64(), "{line} {fresh}");
}

#[test]
fn what_the_hand_made_batch_norm_keeps_is_not_exported_and_that_is_said() {
    let place = Place::new();
    place.output("train lenet_bn_scratch --limit 16 --epochs 1 --out run");
    let output = place.run("export run/last.ckpt --to w.safetensors");
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("not written, because PyTorch's state_dict has no place for it: 1.moving_mean, "),
        "{said}"
    );
}

#[test]
fn pictures_are_predicted_from_weights() {
    let place = Place::new();
    trained(&place);
    place.output("export run/last.ckpt --to w.safetensors");
    image::GrayImage::from_fn(28, 28, |x, _| image::Luma([if x.abs_diff(14) < 3 { 255 } else { 0 }]))
        .save(place.path("one.png"))
        .unwrap();
    let from_checkpoint = place.json("predict run/last.ckpt one.png --json");
    let weights = "predict --network lenet_bn --weights w.safetensors one.png --json";
    assert_eq!(place.json(&format!("{weights} --data digits")), from_checkpoint);
    // Without a data set, the classes have numbers.
    let line = place.json(weights);
    let class = format!("class {}", from_checkpoint["class"].as_str().unwrap());
    assert_eq!(line["class"], class.as_str());
    assert_eq!(line["probability"], from_checkpoint["probability"]);
    assert!(place.error("predict run/last.ckpt").contains("say which pictures"));
}

#[test]
fn weights_of_another_network_fit_in_part() {
    let place = Place::new();
    trained(&place);
    place.output("export run/last.ckpt --to w.safetensors");
    let error = place.error("train lenet --weights w.safetensors --limit 16 --epochs 1");
    assert!(error.starts_with("error: w.safetensors: the weights do not match the network:\n  conv.0.weight [6, 1, 5, 5] is missing\n"), "{error}");
    assert!(
        error.contains("\n  9.running_mean")
            || error.contains("\n  10.running_mean [120] is not in the network"),
        "{error}"
    );
    let error = place.error("train lenet --weights w.safetensors --partial --limit 16 --epochs 1");
    assert!(error.contains("no tensor of it matches the network"), "{error}");

    // The same network with another number of classes: all but the last layer fits.
    let other = "--network lenet_bn --classes 12";
    let error = place.error(&format!("import w.safetensors {other} --data digits --to x.ckpt"));
    assert_eq!(
        error,
        "error: w.safetensors: the weights do not match the network:\n  \
         15.weight is [10, 84], the network has [12, 84]\n  15.bias is [10], the network has [12]"
    );
    assert!(!place.path("x.ckpt").exists());
    let line =
        place.json(&format!("import w.safetensors {other} --data digits --to x.ckpt --partial --json"));
    assert_eq!(line["loaded"], 28);
    assert_eq!(line["left"].as_array().unwrap().len(), 2);
    place.output("eval x.ckpt");
    let output = place
        .run("train lenet_bn --classes 12 --weights w.safetensors --partial --limit 16 --epochs 1 --out y");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.starts_with("28 tensors from w.safetensors\nnot loaded:\n  15.weight is [10, 84]"),
        "{said}"
    );
}

#[test]
fn networks_that_are_wrong_are_refused_with_the_way_to_the_place() {
    let place = Place::new();
    let within = |layer: &str| {
        format!(
            "{{'kind': 'Sequential', 'layers': [{{'name': 'resnet_block2', 'layer': {{'kind': 'Sequential', 'layers': [
              {{'name': '0', 'layer': {{'kind': 'Residual', 'body': [{{'name': 'conv1', 'layer': {layer}}}]}}}}]}}}}]}}"
        )
    };
    let conv =
        |fields: &str| within(&format!("{{'kind': 'Conv2d', 'in_channels': 1, 'kernel_size': 3{fields}}}"));
    let way = "error: a.json / resnet_block2 (Sequential) / 0 (Residual) / conv1 ";
    for (text, expected) in [
        (within("{'kind': 'Conv2D'}"), format!("{way}(Conv2D): there is no layer named `Conv2D`; did you mean `Conv2d`")),
        (conv(""), format!("{way}(Conv2d): missing field `out_channels`")),
        (conv(", 'out_chanels': 1"), format!("{way}(Conv2d): out_chanels: unknown field `out_chanels`, expected one of")),
        (conv(", 'out_channels': 1, 'padding': -1"), format!("{way}(Conv2d): padding: expected a non-negative integer")),
        (conv(", 'out_channels': 1"), "error: a.json / resnet_block2 (Sequential) / 0 (Residual): the output of the body is [1, 1, 26, 26], but that of the shortcut is [1, 1, 28, 28]".into()),
        (conv(", 'out_channels': 1, 'groups': 2"), format!("{way}(Conv2d): groups = 2 must divide in_channels = 1")),
        (within("{'kind': 'Linear', 'in_features': 3, 'out_features': 3}"), format!("{way}(Linear)")),
        ("{'kind': 'ReLU'".into(), "error: a.json: not a network in JSON: EOF while parsing an object at line 1 column 15".into()),
        (format!("{}{}", "{'kind': 'Sequential', 'layers': [{'layer': ".repeat(50_000), "}]}".repeat(50_000)), "error: a.json: not a network in JSON: recursion limit exceeded at line 1".into()),
        ("{'recipe': {'bach': 3}, 'network': {'kind': 'ReLU'}}".into(), "recipe.bach: unknown field `bach`".into()),
        (SMALL.replace("20", "21").replacen("21", "20", 1), "error: a.json / fc2 (Linear)".into()),
    ] {
        place.write("a.json", &text);
        for command in ["train --spec a.json --input 1x28x28 --limit 16 --epochs 1", "summary --spec a.json --input 1x28x28"] {
            let input = if text.contains("fc2") { command.replace("1x28x28", "1x8x8") } else { command.into() };
            let error = place.error(&input);
            assert!(error.contains(&expected), "{expected} is not in: {error}");
        }
    }
    // Numbers beyond all measure.
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
            "more elements than can be counted",
        ),
        (
            "{'kind': 'Linear', 'in_features': 100000000, 'out_features': 100000000}".into(),
            "weight: cannot allocate a tensor of shape [100000000, 100000000] (10000000000000000 elements)",
        ),
        (
            format!("{{'kind': 'Conv2d', 'in_channels': {huge}, 'out_channels': 1, 'kernel_size': {huge}}}"),
            "more elements than can be counted",
        ),
        (
            format!("{{'kind': 'BatchNorm2d', 'num_features': {huge}}}"),
            "cannot allocate a tensor of shape [1099511627776] (1099511627776 elements)",
        ),
        (
            "{'kind': 'MaxPool2d', 'kernel_size': 18446744073709551615}".into(),
            "the picture is smaller than the window",
        ),
    ] {
        place.write("a.json", &text);
        let error = place.error("train --spec a.json --limit 16");
        assert!(
            error.starts_with("error: a.json") && error.contains(expected),
            "{expected} is not in: {error}"
        );
    }
    // It fits no class of the digits.
    place.write("a.json", "{'kind': 'Flatten'}");
    assert!(
        place
            .error("train --spec a.json --input 1x3x3 --limit 16")
            .contains("error: a.json: the output of the network for one image is [1, 9], but the 10 classes of digits (train) need [1, 10]")
    );
    assert!(
        place
            .error("train --spec none.json")
            .starts_with("error: cannot read the network none.json: No such file")
    );
    assert!(place.error("train --spec .").contains("not a network in JSON"));
    assert!(place.error("train --spec a.json --classes 3").contains("--classes is for registered networks"));
    assert!(place.error("spec lenett").contains("did you mean `lenet`"));
    assert!(
        place
            .error("spec lenet --to none/a.json")
            .starts_with("error: cannot write the network to none/a.json")
    );
    assert!(place.error("spec alexnet --input 1x28x28").contains("alexnet / conv (Sequential) / "));
}

#[test]
fn weights_that_are_none_are_refused() {
    let place = Place::new();
    trained(&place);
    place.output("export run/last.ckpt --to w.safetensors");
    let whole = fs::read(place.path("w.safetensors")).unwrap();
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
        (lie("[1152921504606846976]", "[0,8]"), "not a safetensors file: its header is invalid: overflow"),
        (lie("[2]", "[4,12]"), "invalid offset for tensor `0.weight`"),
        (
            [&(1u64 << 62).to_le_bytes()[..], b"{}"].concat(),
            "its first bytes specify a header of 4611686018427387904 bytes, but 2 bytes follow",
        ),
        (header("{\"a\": \u{e9}"), "its header is invalid"),
        (whole[..whole.len() - 1].to_vec(), "it is truncated or damaged"),
        (fs::read(place.path("run/last.ckpt")).unwrap(), "it is a neocog checkpoint"),
        (b"no weights, but a text".to_vec(), "it has another format or is truncated"),
        (Vec::new(), "it has 0 bytes"),
    ] {
        fs::write(place.path("bad.safetensors"), bytes).unwrap();
        for command in [
            "eval --network lenet_bn --weights bad.safetensors --data digits",
            "train lenet_bn --weights bad.safetensors --partial --out z",
            "import bad.safetensors --network lenet_bn --data digits --to z.ckpt",
        ] {
            let error = place.error(command);
            assert!(
                error.starts_with("error: bad.safetensors: ") && error.contains(expected),
                "{expected}: {error}"
            );
        }
    }
    assert!(!place.path("z").exists() && !place.path("z.ckpt").exists());
    let eval = "eval --network lenet_bn --data digits --weights";
    assert!(
        place.error(&format!("{eval} none")).starts_with("error: cannot read the weights none: No such file")
    );
    assert!(place.error(&format!("{eval} .")).contains("it is not a regular file"));
    assert!(place.error("eval run/last.ckpt --spec x.json").contains("a checkpoint holds its network"));
    assert!(
        place
            .error("eval run/last.ckpt --weights w.safetensors --network lenet_bn")
            .contains("takes the place of the checkpoint")
    );
    assert!(place.error("eval --weights w.safetensors --data digits").contains("say which network"));
    assert!(place.error("export w.safetensors --to x").contains("not a neocog checkpoint"));
    assert!(
        place
            .error("export run/last.ckpt --to none/x")
            .starts_with("error: cannot write the weights to none/x")
    );
    assert!(!Path::new("none").exists());
}

#[test]
fn options_that_do_not_go_together_are_told_by_the_parser() {
    let place = Place::new();
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
        assert_eq!(place.run(command).status.code(), Some(2), "{command}");
    }
}
