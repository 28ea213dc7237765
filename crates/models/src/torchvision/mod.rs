//! torchvision's networks, under torchvision's names: with the same parameters, `state_dict` and printed structure as
//! `torchvision.models`, so that published weights load.
//!
//! Initial parameters are this library's, not torchvision's: a network that is trained from scratch starts elsewhere. GoogLeNet and
//! Inception v3 are without their auxiliary heads (`aux_logits=False`).

pub mod alexnet;
mod blocks;
pub mod convnext;
pub mod densenet;
pub mod efficientnet;
pub mod googlenet;
pub mod inception;
pub mod mnasnet;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
pub mod regnet;
pub mod resnet;
pub mod shufflenet;
pub mod squeezenet;
pub mod vgg;
