//! The training configuration of every registered network for every data set.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_train::{ModelFile, TrainConfig};
use serde_json::{Value, json};

/// Batch size, epochs and learning rate.
type Values = (usize, u64, f64);

/// Networks with their values for the data sets of 60,000 images, then for the digits.
const TABLE: [(&str, Values, Values); 10] = [
    ("alexnet", (128, 5, 0.001), (16, 60, 0.001)),
    ("densenet", (256, 5, 0.001), (16, 60, 0.001)),
    ("googlenet", (128, 5, 0.001), (16, 60, 0.001)),
    ("lenet", (256, 5, 0.001), (16, 60, 0.002)),
    ("lenet_bn", (256, 5, 0.001), (16, 60, 0.002)),
    ("lenet_bn_scratch", (256, 5, 0.001), (16, 60, 0.002)),
    ("nin", (128, 5, 0.002), (16, 60, 0.002)),
    ("resnet", (256, 5, 0.001), (16, 60, 0.001)),
    ("vgg", (64, 5, 0.001), (16, 60, 0.001)),
    ("vgg_small", (64, 5, 0.001), (16, 60, 0.001)),
];

fn expected(network: &str, data: &str, (batch, epochs, lr): Values) -> Value {
    let digits = data == "digits";
    let handwriting = json!({"RandomAffine": {"degrees": 10.0, "translate": 0.1, "scale": 0.1}});
    json!({
        "network": network,
        "data": data,
        "limit": null,
        "epochs": epochs,
        "batch": batch,
        "seed": 0,
        "optimizer": {
            "lr": lr,
            "rule": {"adam": {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "amsgrad": false}},
        },
        "schedule": {
            "warm_up": 0,
            "decay": if digits { json!({"cosine": {"floor": 0.0}}) } else { json!("constant") },
        },
        "transforms": {"steps": if digits { vec![handwriting] } else { vec![] }},
    })
}

/// The configuration as it is stored. Text is parsed, because `to_value` widens single-precision numbers.
fn stored(config: &TrainConfig) -> Value {
    serde_json::from_str(&serde_json::to_string(config).unwrap()).unwrap()
}

#[test]
fn every_network_of_the_notes_has_its_configuration_for_every_data_set() {
    let names: Vec<_> = neocog_models::models_of(neocog_models::Family::Notes)
        .unwrap()
        .iter()
        .map(|model| model.name)
        .collect();
    assert_eq!(names, TABLE.map(|(name, ..)| name));
    for (network, large, digits) in TABLE {
        for data in ["digits", "fashion-mnist", "mnist"] {
            let config = TrainConfig::for_network(network, data).unwrap();
            let values = if data == "digits" { digits } else { large };
            assert_eq!(stored(&config), expected(network, data, values));
        }
    }
}

#[test]
fn values_stated_in_a_model_file_apply_to_every_data_set() {
    let text = r#"{
        "name": "lenet_of_a_file",
        "recipe": {"epochs": 3, "batch": 128, "learning_rate": 0.05},
        "network": {"kind": "ReLU"}
    }"#;
    let file = ModelFile::from_json(text, "").unwrap();
    for data in ["digits", "mnist"] {
        let config = TrainConfig::for_file(&file, data).unwrap();
        assert_eq!(stored(&config), expected("lenet_of_a_file", data, (128, 3, 0.05)));
    }
}

#[test]
fn the_file_of_a_registered_network_has_its_recipe_for_every_data_set() {
    for (network, large, digits) in TABLE {
        let model = neocog_models::find(network).unwrap();
        let file = ModelFile::of(&model, model.input, model.classes).unwrap();
        let file = ModelFile::from_json(&file.to_json().unwrap(), "").unwrap();
        for (data, values) in [("digits", digits), ("fashion-mnist", large), ("mnist", large)] {
            let config = TrainConfig::for_file(&file, data).unwrap();
            assert_eq!(stored(&config), expected(network, data, values));
            assert_eq!(config, TrainConfig::for_network(network, data).unwrap());
        }
    }
    // A value that was edited makes all values apply to every data set.
    let model = neocog_models::find("lenet").unwrap();
    let mut file = ModelFile::of(&model, model.input, model.classes).unwrap();
    file.recipe = file.recipe.with_epochs(6);
    let config = TrainConfig::for_file(&file, "digits").unwrap();
    assert_eq!((config.epochs, config.batch), (6, 256));
}

#[test]
fn values_that_a_model_file_does_not_state_are_those_of_the_data_set() {
    let config = |recipe: &str, data: &str| {
        let text = format!(r#"{{"name": "lenet", "recipe": {recipe}, "network": {{"kind": "ReLU"}}}}"#);
        let config = TrainConfig::for_file(&ModelFile::from_json(&text, "").unwrap(), data).unwrap();
        (config.batch, config.epochs, config.optimizer.lr, config.optimizer.kind.name())
    };
    assert_eq!(config("{}", "mnist"), (128, 5, 0.001, "adam"));
    assert_eq!(config("{}", "digits"), (16, 60, 0.001, "adam"));
    assert_eq!(config(r#"{"batch": 8, "optimizer": "rmsprop"}"#, "digits"), (8, 60, 0.01, "rmsprop"));
    assert_eq!(config(r#"{"epochs": 7, "optimizer": "sgd"}"#, "digits"), (16, 7, 0.001, "sgd"));
}

#[test]
fn the_algorithm_of_an_optimizer_is_stored_as_in_0_1() {
    let config = TrainConfig::for_network("lenet", "digits").unwrap();
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""optimizer":{"lr":0.002,"rule":{"adam":"#), "{text}");
    assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
    let renamed = text.replace(r#""rule""#, r#""kind""#);
    assert_eq!(serde_json::from_str::<TrainConfig>(&renamed).unwrap(), config);
}
