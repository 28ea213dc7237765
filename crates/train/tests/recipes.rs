//! The training configuration of every registered network for every data set.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_data::known::KNOWN;
use neocog_train::TrainConfig;
use serde_json::{Value, json};

/// Network, batch size, epochs and learning rate for the data sets of 60,000 images, then for the digits.
const TABLE: [(&str, (usize, u64, f64), (usize, u64, f64)); 10] = [
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

fn expected(network: &str, data: &str, (batch, epochs, lr): (usize, u64, f64)) -> Value {
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

#[test]
fn every_registered_network_has_its_configuration_for_every_data_set() {
    let names: Vec<_> = neocog_models::models().unwrap().iter().map(|model| model.name).collect();
    assert_eq!(names, TABLE.map(|(name, ..)| name));
    assert_eq!(KNOWN.each_ref().map(|known| known.name), ["digits", "fashion-mnist", "mnist"]);
    for (network, large, digits) in TABLE {
        for data in ["digits", "fashion-mnist", "mnist"] {
            let config = TrainConfig::for_network(network, data).unwrap();
            let values = if data == "digits" { digits } else { large };
            // By way of the text, because `to_value` shows the rounding of single-precision numbers.
            let stored: Value = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
            assert_eq!(stored, expected(network, data, values));
        }
    }
}
