//! Networks as JSON: the stored form does not change, and errors have the path to the layer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use neocog_layers::{Builder, Conv2d, LayerSpec, Sequential};
use neocog_models::{Family, models_of};
use neocog_tensor::{Device, ErrorKind, Shape};
use neocog_tests as _;
use neocog_train::ModelFile;

/// If set, the test below writes the files instead of comparing them.
const WRITE: &str = "NEOCOG_WRITE_SPECS";

#[test]
fn the_json_of_every_network_is_unchanged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let write = std::env::var_os(WRITE).is_some();
    for model in models_of(Family::Notes).unwrap() {
        let file = ModelFile::of(&model, model.input, model.classes).unwrap();
        let text = file.to_json().unwrap() + "\n";
        let path = folder.join(format!("{}.json", model.name));
        if write {
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == text,
            "the JSON of {} differs from {}: users have such files, so add aliases instead of renaming; after an intended change, \
             {WRITE}=1 cargo test -p neocog-tests --test specs writes the files",
            model.name,
            path.display()
        );
        let read = ModelFile::read(&path).unwrap();
        assert_eq!(read, file, "{}", model.name);
        assert_eq!(read.network, model.spec().unwrap());
    }
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        models_of(Family::Notes).unwrap().len(),
        "a file for each network"
    );
}

/// The network of a JSON text, in which `'` stands for `"`.
fn parse(json: &str) -> neocog_tensor::Result<LayerSpec> {
    LayerSpec::from_json(&json.replace('\'', "\""))
}

/// A network of two blocks with a layer at the end of the second.
fn within(layer: &str) -> String {
    format!(
        "{{'kind': 'Sequential', 'layers': [
            {{'name': 'stem', 'layer': {{'kind': 'ReLU'}}}},
            {{'name': 'resnet_block2', 'layer': {{'kind': 'Sequential', 'layers': [
                {{'name': '0', 'layer': {{'kind': 'Residual', 'shortcut': [], 'body': [
                    {{'name': 'conv1', 'layer': {layer}}}]}}}}]}}}}]}}"
    )
}

const PATH: &str = "resnet_block2 (Sequential) / 0 (Residual) / conv1 ";

#[test]
fn errors_of_nested_layers_have_a_path() {
    let conv = |fields: &str| within(&format!("{{'kind': 'Conv2d', {fields}}}"));
    for (json, expected) in [
        (within("{'kind': 'Conv2D'}"), "(Conv2D): there is no layer named `Conv2D`; did you mean `Conv2d`"),
        (conv("'in_channels': 1, 'kernel_size': 3"), "(Conv2d): missing field `out_channels`"),
        (
            conv("'in_channels': 1, 'out_channels': 1, 'kernel_size': 3, 'pading': 1"),
            "(Conv2d): pading: unknown field `pading`, expected one of `in_channels`",
        ),
        (
            conv("'in_channels': 1, 'out_channels': 1, 'kernel_size': 3, 'padding': -1"),
            "(Conv2d): padding: expected a non-negative integer or a pair of them",
        ),
        (
            conv("'in_channels': 1, 'out_channels': 1, 'kernel_size': 3, 'padding': [1, 2, 3]"),
            "(Conv2d): padding: expected a non-negative integer or a pair of them",
        ),
        (
            conv("'in_channels': -1, 'out_channels': 1, 'kernel_size': 3"),
            "(Conv2d): in_channels: invalid value: integer `-1`",
        ),
        (
            conv("'in_channels': '1', 'out_channels': 1, 'kernel_size': 3"),
            "(Conv2d): in_channels: invalid type: string \"1\"",
        ),
        (within("{'in_channels': 1}"), "(a layer): a layer without the field \"kind\""),
        (within("{'kind': 3}"), "(a layer): the field \"kind\" of a layer is a string, found 3"),
        (within("[]"), "(a layer): a layer is an object like {\"kind\": \"ReLU\"}, found []"),
        (
            within("'other.json'"),
            "(a layer): a layer is an object like {\"kind\": \"ReLU\"}, found \"other.json\"",
        ),
    ] {
        let error = parse(&json).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{PATH}{expected}")), "{error}");
    }
}

#[test]
fn errors_of_the_outermost_layer() {
    for (json, expected) in [
        ("{'kind': 'Linear', 'in_features': 1}", "Linear: missing field `out_features`"),
        ("{'kind': 'Lineal'}", "Lineal: there is no layer named `Lineal`; did you mean `Linear`"),
        ("{'kind': 'Sequential'}", "Sequential: missing field `layers`"),
        (
            "{'kind': 'Sequential', 'layers': [{'name': 'a', 'layers': []}]}",
            "Sequential: layers[0].layers: unknown field `layers`, expected `name` or `layer`",
        ),
        ("{'kind': 'Concat', 'branches': [[], 7]}", "Concat: branches[1]: invalid type: integer `7`"),
        (
            "{'kind': 'Sequential', 'layers': [{'layer': {'kind': 'Relu'}}]}",
            "Relu: there is no layer named `Relu`",
        ),
        ("{'kind': 'Sequential', 'layers': [{'name': 'a'}]}", "Sequential: layers[0]: missing field `layer`"),
        ("{", "not the spec of a network: EOF while parsing an object at line 1"),
        ("7", "a layer is an object like {\"kind\": \"ReLU\"}, found 7"),
    ] {
        let error = parse(json).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::NotFound), "{error:?}");
    }
}

#[test]
fn an_error_does_not_affect_the_next_network() {
    assert!(parse(&within("{'kind': 'Conv2D'}")).is_err());
    let error = parse("{'kind': 'Linear', 'in_features': 1}").unwrap_err().to_string();
    assert_eq!(error, "Linear: missing field `out_features`");
}

#[test]
fn deep_nesting_is_an_error() {
    let open = "{'kind': 'Sequential', 'layers': [{'name': 'a', 'layer': ";
    let nested = |depth: usize| format!("{}{{'kind': 'ReLU'}}{}", open.repeat(depth), "}]}".repeat(depth));
    assert!(parse(&nested(30)).is_ok());
    for depth in [100, 100_000] {
        let error = parse(&nested(depth)).unwrap_err().to_string();
        assert!(
            error.starts_with("not the spec of a network: recursion limit exceeded at line 1"),
            "{error}"
        );
    }
    let error = parse(&"[".repeat(1_000_000)).unwrap_err().to_string();
    assert!(error.contains("recursion limit exceeded"), "{error}");
}

#[test]
fn errors_of_shapes_have_a_path() {
    let error = |json: &str, input: [usize; 4]| {
        let spec = parse(json).unwrap();
        Builder::new(&Device::Meta, 0).build(&spec, &Shape::from(input)).unwrap_err().to_string()
    };
    let conv =
        within("{'kind': 'Conv2d', 'in_channels': 64, 'out_channels': 64, 'kernel_size': 3, 'padding': 1}");
    let text = error(&conv, [1, 32, 8, 8]);
    assert!(text.starts_with(&format!("{PATH}(Conv2d) / conv2d: the input has 32 channels")), "{text}");
    // The output of the body is smaller than that of the shortcut.
    let conv = within("{'kind': 'Conv2d', 'in_channels': 2, 'out_channels': 2, 'kernel_size': 3}");
    let text = error(&conv, [1, 2, 8, 8]);
    assert!(
        text.starts_with("resnet_block2 (Sequential) / 0 (Residual): the output of the body is [1, 2, 6, 6]"),
        "{text}"
    );
    // The input is too small.
    let text = error(&conv, [1, 2, 2, 2]);
    assert!(text.starts_with(&format!("{PATH}(Conv2d) / ")), "{text}");
    let pool = within("{'kind': 'MaxPool2d', 'kernel_size': 2, 'stride': 0}");
    let text = error(&pool, [1, 2, 8, 8]);
    assert!(text.starts_with(&format!("{PATH}(MaxPool2d)")), "{text}");
}

#[test]
fn model_files_have_defaults_and_errors_name_the_field() {
    let read = |json: &str| ModelFile::from_json(&json.replace('\'', "\""), "my_net");
    let bare = read("{'kind': 'ReLU'}").unwrap();
    assert_eq!((bare.name.as_str(), bare.recipe.batch), ("my_net", None));
    assert_eq!(bare.recipe.optimizer_config().lr, 0.001);
    let full = read(
        "{'name': 'other', 'about': 'a relu', 'recipe': {'input': [1, 2, 3], 'batch': 4, 'epochs': 5,
          'learning_rate': 0.5, 'optimizer': 'sgd'}, 'network': {'kind': 'ReLU'}}",
    )
    .unwrap();
    assert_eq!((full.name.as_str(), full.recipe.input), ("other", Some([1, 2, 3])));
    let optimizer = full.recipe.optimizer_config();
    assert_eq!((optimizer.lr, optimizer.kind.name()), (0.5, "sgd"));
    assert_eq!(read(&full.to_json().unwrap()).unwrap(), full);

    for (json, expected) in [
        ("{'network': {'kind': 'Relu'}}", "Relu: there is no layer named `Relu`"),
        (
            "{'net': {'kind': 'ReLU'}}",
            "unknown field `net`, expected one of `name`, `about`, `recipe`, `network`",
        ),
        ("{'name': 'a'}", "missing field `network`"),
        ("[]", "a network is an object with a \"kind\", or one with a \"network\""),
        ("{'recipe': {'bach': 3}, 'network': {'kind': 'ReLU'}}", "recipe.bach: unknown field `bach`"),
        (
            "{'recipe': {'batch': -3}, 'network': {'kind': 'ReLU'}}",
            "recipe.batch: invalid value: integer `-3`",
        ),
        ("{'recipe': {'input': [1, 28]}, 'network': {'kind': 'ReLU'}}", "recipe.input: invalid length 2"),
        ("{'recipe': {'optimizer': 'adamm'}, 'network': {'kind': 'ReLU'}}", "no optimizer named `adamm`"),
        ("{'recipe': {'learning_rate': -1}, 'network': {'kind': 'ReLU'}}", "-1"),
        ("{'name': '../up', 'network': {'kind': 'ReLU'}}", "\"../up\" is not a valid name of a network"),
        ("{", "not a network in JSON: EOF"),
    ] {
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.json");
    let error = |path: &Path| ModelFile::read(path).unwrap_err().to_string();
    assert!(error(&path).starts_with("cannot read the network "));
    assert!(error(dir.path()).contains("not a network in JSON: expected a regular file"));
    for (bytes, expected) in [
        (&[b'"', 0xff, b'"'][..], "not a network in JSON: invalid utf-8"),
        // A mark of UTF-16, and one byte and a half of a character.
        (&[0xff, 0xfe, 0], "not a network in JSON: the UTF-16 text ends within a character"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(error(&path).contains(&format!("my.json: {expected}")), "{}", error(&path));
    }
    fs::write(&path, within("{'kind': 'Conv2D'}").replace('\'', "\"")).unwrap();
    assert!(error(&path).contains(&format!("my.json / {PATH}(Conv2D)")), "{}", error(&path));
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(error(&path).contains("a regular file of at most"), "{}", error(&path));
}

#[test]
fn a_network_that_cannot_be_stored_is_not_trained() {
    // Nested deeper than JSON can be.
    let mut spec: LayerSpec = Conv2d::new(1, 1, 1).into();
    for _ in 0..60 {
        spec = Sequential::new().then(spec).into();
    }
    let config = neocog_train::TrainConfig::for_network("lenet", "digits").unwrap();
    let e =
        neocog_train::Trainer::with_classes(config, spec, [1, 2, 2], Vec::new(), &Device::Cpu).unwrap_err();
    assert!(e.to_string().contains("recursion limit exceeded"), "{e}");
}
