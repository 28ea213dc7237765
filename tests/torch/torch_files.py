"""Writes the state_dict of a small network as people's files have it; `tests/tests/torch_files.rs` reads them.

Usage: torch_files.py DIRECTORY
"""
import argparse
import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch import nn

directory = pathlib.Path(sys.argv[1])
torch.manual_seed(1)
net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
net(torch.randn(5, 2, 4, 4))
# Values that half precision and bfloat16 hold.
state = {key: (value * 16).round() / 16 if value.is_floating_point() else value.clone() for key, value in net.state_dict().items()}
save_file(state, directory / "expected.safetensors")


def save(name, value, **options):
    torch.save(value, directory / f"{name}.pth", **options)


for protocol in range(2, 6):
    save(f"zip_{protocol}", state, pickle_protocol=protocol)
    save(f"legacy_{protocol}", state, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
for type in (torch.float16, torch.bfloat16, torch.float64):
    save(f"as_{type}", {key: value.to(type) for key, value in state.items()})
whole = torch.cat([value.flatten() for value in state.values() if value.is_floating_point()])
shared, at = {}, 0
for key, value in state.items():
    if value.is_floating_point():
        shared[key] = whole[at : at + value.numel()].view(value.shape)
        at += value.numel()
    else:
        shared[key] = value
for legacy in (False, True):
    kind = "legacy" if legacy else "zip"
    options = {"_use_new_zipfile_serialization": not legacy}
    save(f"shared_{kind}", shared, **options)
    strided = {k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in state.items()}
    strided["0.weight"] = state["0.weight"].contiguous(memory_format=torch.channels_last)
    save(f"strided_{kind}", strided, **options)
save("module", {f"module.{key}": value for key, value in state.items()})
save("compiled", {"model": {f"_orig_mod.{key}": value for key, value in state.items()}, "epoch": 3})
save("lightning", {"state_dict": {f"model.{key}": value for key, value in state.items()}, "lr": 0.1})
optimizer = torch.optim.Adam(net.parameters())
net(torch.randn(5, 2, 4, 4)).sum().backward()
optimizer.step()
save(
    "checkpoint",
    {
        "model_state_dict": state,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu")),
        "size": torch.Size([1, 2]),
        "best": 0.5,
    },
)
save("parameters", {key: nn.Parameter(value) if value.is_floating_point() else value for key, value in state.items()})
save("without_counter", {key: value for key, value in state.items() if "num_batches" not in key})
save("float_counter", state | {"1.num_batches_tracked": torch.tensor(1.0)})
save("refused_module", net)
