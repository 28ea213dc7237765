"""The PyTorch part of tests/random_networks.rs: python random_networks.py DIRECTORY

DIRECTORY contains for each network N.json (layers by name with their fields, and the shape of the input), N.weights.safetensors
and N.input.safetensors (the images x and the labels). Computes one training step in double precision, and writes the loss,
the gradients and the running statistics to N.torch.safetensors.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def build(layer):
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.items() if key != "kind"}
    return getattr(nn, layer["kind"])(**fields)


def main(directory):
    torch.set_num_threads(1)
    for path in sorted(directory.glob("*.json")):
        layers = json.loads(path.read_text())["layers"]
        net = nn.Sequential(*[build(entry["layer"]) for entry in layers]).double().train()
        net.load_state_dict(load_file(path.with_suffix(".weights.safetensors")), strict=True)
        data = load_file(path.with_suffix(".input.safetensors"))
        loss = nn.functional.cross_entropy(net(data["x"].double()), data["labels"].long())
        loss.backward()
        results = {f"grad.{name}": parameter.grad for name, parameter in net.named_parameters()}
        results |= {f"buffer.{name}": value for name, value in net.named_buffers() if value.is_floating_point()}
        results["loss"] = loss.detach().reshape(1)
        save_file({name: value.contiguous() for name, value in results.items()}, path.with_suffix(".torch.safetensors"))


main(Path(sys.argv[1]))
