"""Writes `tests/torch/layers.json`: layers with their outputs and gradients, computed by PyTorch and torchvision in double precision.

Elements of tensors are `sin(stream + position)`, times a scale, so neither inputs nor parameters are stored. The gradients are those of
the sum of the outputs, each multiplied by `cos(position)`.

Usage: layers_golden.py FILE
"""
import json
import sys

import torch
import torchvision
from torch import nn
from torchvision.ops.misc import Permute

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
# PyTorch's gradient of hardsigmoid multiplies by 1 / 6 in single precision, also of doubles: a relative error of 3e-8.
nn.Hardsigmoid.forward = lambda self, x: torch.nn.functional.relu6(x + 3) / 6


def wave(shape, stream, scale=1.0):
    count = torch.Size(shape).numel()
    return (torch.sin(torch.arange(count, dtype=torch.float64) + stream) * scale).reshape(shape)


class Layer(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.avgpool, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(self.avgpool(x)))))


GATE = {
    "kind": "Gate",
    "body": [
        {"name": "avgpool", "layer": {"kind": "AdaptiveAvgPool2d", "output_size": 1}},
        {"name": "fc1", "layer": {"kind": "Conv2d", "in_channels": 4, "out_channels": 2, "kernel_size": 1}},
        {"layer": {"kind": "ReLU"}},
        {"name": "fc2", "layer": {"kind": "Conv2d", "in_channels": 2, "out_channels": 4, "kernel_size": 1}},
        {"layer": {"kind": "Sigmoid"}},
    ],
}
CASES = [
    ({"kind": "Hardsigmoid"}, nn.Hardsigmoid(), [2, 3, 2, 3]),
    ({"kind": "Hardswish"}, nn.Hardswish(), [2, 3, 2, 3]),
    ({"kind": "ReLU6"}, nn.ReLU6(), [2, 3, 2, 3]),
    ({"kind": "SiLU"}, nn.SiLU(), [2, 3, 2, 3]),
    ({"kind": "GELU"}, nn.GELU(), [2, 3, 2, 3]),
    ({"kind": "GELU", "approximate": "tanh"}, nn.GELU(approximate="tanh"), [2, 3, 2, 3]),
    ({"kind": "ELU", "alpha": 0.5}, nn.ELU(alpha=0.5), [2, 3, 2, 3]),
    ({"kind": "LeakyReLU", "negative_slope": 0.2}, nn.LeakyReLU(0.2), [2, 3, 2, 3]),
    ({"kind": "PReLU"}, nn.PReLU(), [2, 3, 2, 3]),
    ({"kind": "PReLU", "num_parameters": 3}, nn.PReLU(3), [2, 3, 2, 3]),
    ({"kind": "AdaptiveAvgPool2d", "output_size": [3, 2]}, nn.AdaptiveAvgPool2d((3, 2)), [2, 2, 7, 5]),
    ({"kind": "AdaptiveAvgPool2d", "output_size": 4}, nn.AdaptiveAvgPool2d(4), [1, 2, 2, 9]),
    ({"kind": "AdaptiveAvgPool2d", "output_size": 2}, nn.AdaptiveAvgPool2d(2), [1, 2, 4, 6]),
    ({"kind": "AdaptiveAvgPool2d", "output_size": 1}, nn.AdaptiveAvgPool2d(1), [2, 2, 3, 5]),
    ({"kind": "ChannelShuffle", "groups": 2}, nn.ChannelShuffle(2), [2, 6, 2, 2]),
    ({"kind": "ChannelShuffle", "groups": 3}, nn.ChannelShuffle(3), [1, 12, 2, 1]),
    ({"kind": "Permute", "dims": [0, 2, 3, 1]}, Permute([0, 2, 3, 1]), [2, 3, 2, 4]),
    ({"kind": "Narrow", "dim": 1, "start": 1, "length": 2}, Layer(lambda x: x.narrow(1, 1, 2)), [2, 4, 2, 2]),
    ({"kind": "LayerNorm", "normalized_shape": [5], "eps": 1e-6}, nn.LayerNorm(5, eps=1e-6), [2, 3, 5]),
    ({"kind": "LayerNorm", "normalized_shape": [3, 4]}, nn.LayerNorm([3, 4]), [2, 3, 4]),
    ({"kind": "LayerNorm2d", "num_channels": 6, "eps": 1e-6}, torchvision.models.convnext.LayerNorm2d(6, eps=1e-6), [2, 6, 3, 2]),
    ({"kind": "GroupNorm", "num_groups": 2, "num_channels": 6}, nn.GroupNorm(2, 6), [2, 6, 3, 2]),
    ({"kind": "GroupNorm", "num_groups": 3, "num_channels": 3, "affine": False}, nn.GroupNorm(3, 3, affine=False), [2, 3, 5]),
    (
        {"kind": "Conv2d", "in_channels": 4, "out_channels": 8, "kernel_size": 3, "padding": 1, "groups": 4},
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        [2, 4, 5, 4],
    ),
    (
        {"kind": "Conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 2, "bias": False},
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
        [2, 4, 5, 6],
    ),
    (
        {"kind": "Conv2d", "in_channels": 2, "out_channels": 3, "kernel_size": [2, 5], "padding": "same", "dilation": [3, 1]},
        nn.Conv2d(2, 3, (2, 5), padding="same", dilation=(3, 1)),
        [2, 2, 6, 7],
    ),
    (
        {"kind": "Conv2d", "in_channels": 2, "out_channels": 3, "kernel_size": 4, "padding": "same"},
        nn.Conv2d(2, 3, 4, padding="same"),
        [1, 2, 5, 6],
    ),
    (
        {"kind": "ConvTranspose2d", "in_channels": 3, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
        [2, 3, 3, 4],
    ),
    (
        {"kind": "ConvTranspose2d", "in_channels": 4, "out_channels": 6, "kernel_size": [2, 3], "groups": 2, "dilation": [2, 1], "bias": False},
        nn.ConvTranspose2d(4, 6, (2, 3), groups=2, dilation=(2, 1), bias=False),
        [1, 4, 3, 2],
    ),
    ({"kind": "Upsample", "scale_factor": 2.0}, nn.Upsample(scale_factor=2), [1, 2, 3, 4]),
    ({"kind": "Upsample", "scale_factor": 1.7}, nn.Upsample(scale_factor=1.7), [1, 2, 5, 4]),
    ({"kind": "Upsample", "size": [5, 3]}, nn.Upsample(size=(5, 3)), [1, 2, 3, 4]),
    ({"kind": "Upsample", "scale_factor": 1.7, "mode": "bilinear"}, nn.Upsample(scale_factor=1.7, mode="bilinear"), [1, 2, 5, 4]),
    ({"kind": "Upsample", "size": [7, 3], "mode": "bilinear"}, nn.Upsample(size=(7, 3), mode="bilinear"), [1, 2, 3, 5]),
    (
        {"kind": "Upsample", "size": [7, 3], "mode": "bilinear", "align_corners": True},
        nn.Upsample(size=(7, 3), mode="bilinear", align_corners=True),
        [1, 2, 3, 5],
    ),
    ({"kind": "Linear", "in_features": 4, "out_features": 3}, nn.Linear(4, 3), [2, 3, 2, 4]),
    (GATE, Gate(), [2, 4, 3, 3]),
    ({"kind": "InPlace", "layer": {"kind": "ReLU"}}, nn.ReLU(inplace=True), [2, 3]),
]

cases = []
for spec, layer, shape in CASES:
    for i, (name, value) in enumerate(layer.named_parameters()):
        value.data = wave(value.shape, 10.0 * (i + 1), 0.5)
    x = wave(shape, 1.0, 4.0).requires_grad_()
    # A copy, which a layer in place may change.
    y = layer(x.clone())
    y.backward(torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape))
    case = {"spec": spec, "printed": None if isinstance(layer, (Layer, Gate)) else repr(layer)}
    case |= {"shape": shape, "output_shape": list(y.shape), "output": y.flatten().tolist()}
    case["grads"] = {"input": x.grad.flatten().tolist()}
    case["grads"] |= {name: value.grad.flatten().tolist() for name, value in layer.named_parameters()}
    cases.append(case)
made_with = {"torch": torch.__version__, "torchvision": torchvision.__version__}
lines = ",\n  ".join(json.dumps(case) for case in cases)
with open(sys.argv[1], "w") as file:
    file.write(f'{{"made_with": {json.dumps(made_with)}, "cases": [\n  {lines}\n]}}\n')
