"""Computes with a network of torchvision what neocog computes: logits in evaluation and the gradients of a training step, in double
precision, without dropout and stochastic depth.

Usage: torchvision_parity.py NAME DIRECTORY [PATTERN]. Reads `neocog.safetensors` (weights) and `input.safetensors` (images and labels)
there; writes `structure.txt`, `torch.safetensors` and `torch.pth` (the same weights) and `results.safetensors`. Parameters and batch
norms whose names match the regular expression PATTERN are frozen.
"""
import collections
import pathlib
import re
import sys

import torch
import torchvision
from safetensors.torch import load_file, save_file

name, directory = sys.argv[1], pathlib.Path(sys.argv[2])
torch.set_num_threads(2)
# PyTorch's gradient of hardsigmoid multiplies by 1 / 6 in single precision, also of doubles: a relative error of 3e-8.
torch.nn.Hardsigmoid.forward = lambda self, x: torch.nn.functional.relu6(x + 3) / 6
options = {"weights": None}
if name in ("tv_googlenet", "inception_v3"):
    options |= {"aux_logits": False, "init_weights": False}
network = getattr(torchvision.models, name.removeprefix("tv_"))(**options)
(directory / "structure.txt").write_text(str(network))

given = collections.OrderedDict(load_file(directory / "neocog.safetensors"))
# MNASNet refuses a state_dict without the versions of its modules, which safetensors files do not have.
given._metadata = network.state_dict()._metadata
network.load_state_dict(given, strict=True)
state = network.state_dict()
save_file(state, directory / "torch.safetensors")
torch.save(state, directory / "torch.pth")

given = load_file(directory / "input.safetensors")
images, labels = given["images"].double(), given["labels"].long()
network.double()
for module in network.modules():
    if isinstance(module, (torch.nn.Dropout, torchvision.ops.StochasticDepth)):
        module.p = 0.0
network.eval()
with torch.no_grad():
    results = {"logits": network(images)}
network.train()
if len(sys.argv) > 3:
    for key, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and re.search(sys.argv[3], f"{key}.running_mean"):
            module.eval()
    for key, value in network.named_parameters():
        value.requires_grad_(not re.search(sys.argv[3], key))
loss = torch.nn.functional.cross_entropy(network(images), labels)
loss.backward()
results["loss"] = loss.detach()
results |= {f"grad.{key}": value.grad for key, value in network.named_parameters() if value.grad is not None}
save_file(results, directory / "results.safetensors")
print(sum(value.numel() for value in network.parameters()))
