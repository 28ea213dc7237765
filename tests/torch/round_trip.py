"""The PyTorch side of tests/torch.rs: python round_trip.py NETWORK FOLDER

FOLDER holds ours.safetensors (the weights of the network, written by neocog) and x.safetensors (an input x, and the
logits y that neocog computed). Checks that the weights load with strict=True, that the logits are the same, and that
PyTorch would have written the same file. Then draws other weights and writes theirs.safetensors and theirs_y.safetensors
(their logits of the same x).
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
import networks


def draw(net):
    """Weights as PyTorch draws them, and running statistics as after some training."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(1234)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)


def main(name, folder):
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    net = getattr(networks, name)().eval()
    given = load_file(folder / "x.safetensors")

    net.load_state_dict(load_file(folder / "ours.safetensors"), strict=True)
    y = net(given["x"])
    off = ((y - given["y"]).abs().max() / y.abs().max()).item()
    assert off <= 1e-5, f"the logits are off by {off:.1e}: {y[0].tolist()}, neocog has {given['y'][0].tolist()}"
    save_file(net.state_dict(), folder / "again.safetensors")
    same = (folder / "again.safetensors").read_bytes() == (folder / "ours.safetensors").read_bytes()
    assert same, "PyTorch writes another file of the same weights"
    (folder / "again.safetensors").unlink()

    net = getattr(networks, name)().eval()
    draw(net)
    save_file(net.state_dict(), folder / "theirs.safetensors")
    save_file({"y": net(given["x"])}, folder / "theirs_y.safetensors")
    count = sum(parameter.numel() for parameter in net.parameters())
    print(f"{len(net.state_dict())} tensors, {count:,} parameters, logits off by {off:.1e}")


main(sys.argv[1], Path(sys.argv[2]))
