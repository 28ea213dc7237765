"""The PyTorch part of tests/torch.rs: python round_trip.py NETWORK DIRECTORY

DIRECTORY contains neocog.safetensors (the weights of the network, written by neocog) and x.safetensors (an input x, and the
logits y computed by neocog). Checks that the weights can be loaded with strict=True, that the logits agree, and that PyTorch
writes an identical file. Then writes pytorch.safetensors with random weights and pytorch_y.safetensors with their logits of x.
"""
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
import networks


def randomize_statistics(net):
    """Sets running statistics and scales of batch norms to random values, as after training."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(1234)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)


def main(name, directory):
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    net = getattr(networks, name)().eval()
    reference = load_file(directory / "x.safetensors")

    net.load_state_dict(load_file(directory / "neocog.safetensors"), strict=True)
    y = net(reference["x"])
    error = ((y - reference["y"]).abs().max() / y.abs().max()).item()
    assert error <= 1e-5, f"the logits deviate by {error:.1e}: {y[0].tolist()}, neocog computes {reference['y'][0].tolist()}"
    save_file(net.state_dict(), directory / "again.safetensors")
    same = (directory / "again.safetensors").read_bytes() == (directory / "neocog.safetensors").read_bytes()
    assert same, "PyTorch writes a different file for the same weights"
    (directory / "again.safetensors").unlink()

    net = getattr(networks, name)().eval()
    randomize_statistics(net)
    save_file(net.state_dict(), directory / "pytorch.safetensors")
    save_file({"y": net(reference["x"])}, directory / "pytorch_y.safetensors")
    count = sum(parameter.numel() for parameter in net.parameters())
    print(f"{len(net.state_dict())} tensors, {count:,} parameters, logits deviate by {error:.1e}")


main(sys.argv[1], Path(sys.argv[2]))
