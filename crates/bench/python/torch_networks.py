"""PyTorch modules for neocog's networks: `network` creates that of a job, `build` a module from the JSON that `neocog spec NETWORK` prints."""
import torch
import torch.nn.functional as F
from torch import nn

ACTIVATION = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class Sequence(nn.Module):
    """A sequence of layers, like nn.Sequential."""

    def __init__(self, children):
        super().__init__()
        self.layers = nn.ModuleList(build(c["layer"]) for c in children)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Residual(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.body, self.shortcut = Sequence(spec["body"]), Sequence(spec.get("shortcut", []))
        self.activation = ACTIVATION.get(spec.get("activation"), lambda v: v)

    def forward(self, x):
        return self.activation(self.body(x) + self.shortcut(x))


class Concat(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.branches, self.dim = nn.ModuleList(Sequence(b) for b in spec["branches"]), spec.get("dim", 1)

    def forward(self, x):
        return torch.cat([b(x) for b in self.branches], self.dim)


class GlobalAvgPool2d(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, kernel_size=x.size()[2:])


class MovingAverageBatchNorm(nn.Module):
    """Batch norm of "Dive into Deep Learning": moving averages with the biased variance, parameters of the input's rank."""

    def __init__(self, s):
        super().__init__()
        shape = [1, s["num_features"]] + [1] * (s["num_dims"] - 2)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.mean, self.var, self.eps, self.decay = torch.zeros(shape), torch.zeros(shape), s["eps"], s["momentum"]

    def forward(self, x):
        mean, var = self.mean, self.var
        if self.training:
            axes = [0] + list(range(2, x.dim()))
            mean = x.mean(axes, keepdim=True)
            var = ((x - mean) ** 2).mean(axes, keepdim=True)
            self.mean = self.decay * self.mean + (1 - self.decay) * mean.detach()
            self.var = self.decay * self.var + (1 - self.decay) * var.detach()
        return self.gamma * (x - mean) / torch.sqrt(var + self.eps) + self.beta


def pair(v):
    return tuple(v) if isinstance(v, list) else v


def build(s):
    kind = s["kind"]
    if kind == "Sequential":
        return Sequence(s["layers"])
    if kind == "Residual":
        return Residual(s)
    if kind == "Concat":
        return Concat(s)
    if kind == "Conv2d":
        assert not s["flip"], "PyTorch has no true convolution (flip)"
        return nn.Conv2d(s["in_channels"], s["out_channels"], pair(s["kernel_size"]), pair(s["stride"]),
                         pair(s["padding"]), pair(s["dilation"]), s["groups"], s["bias"])
    if kind == "Linear":
        return nn.Linear(s["in_features"], s["out_features"], s["bias"])
    if kind == "MaxPool2d":
        return nn.MaxPool2d(pair(s["kernel_size"]), pair(s["stride"]), pair(s["padding"]), pair(s["dilation"]),
                            ceil_mode=s["ceil_mode"])
    if kind == "AvgPool2d":
        return nn.AvgPool2d(pair(s["kernel_size"]), pair(s["stride"]), pair(s["padding"]), s["ceil_mode"],
                            s["count_include_pad"], s["divisor_override"])
    if kind == "GlobalAvgPool2d":
        return GlobalAvgPool2d()
    if kind in ("BatchNorm1d", "BatchNorm2d"):
        return getattr(nn, kind)(s["num_features"], s["eps"], s["momentum"], s["affine"], s["track_running_stats"])
    if kind == "BatchNorm":
        return MovingAverageBatchNorm(s)
    if kind == "Dropout":
        return nn.Dropout(s["p"])
    if kind in ("Flatten", "FlattenLayer"):
        return nn.Flatten(s.get("start_dim", 1), s.get("end_dim", -1))
    if kind in ("Softmax", "LogSoftmax"):
        return getattr(nn, kind)(s["dim"])
    if kind in ("ReLU", "Sigmoid", "Tanh", "Identity"):
        return getattr(nn, kind)()
    sys.exit(f"torch_networks.py does not support the layer {kind}")


def network(job):
    """Returns the network of a job: torchvision's own if the job names one, or else a module that is built from the spec."""
    name = job.get("torchvision")
    if name is None:
        return build(job["spec"])
    import torchvision
    options = {"weights": None, "num_classes": job["classes"]}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    return getattr(torchvision.models, name)(**options)
