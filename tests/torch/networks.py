"""The networks in PyTorch, for the round-trip test: modules with the attribute names of the notes, so that their state_dict has the
same names as in neocog.
"""
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu


class Chain(nn.Sequential):
    """A Sequential of numbered modules, followed by named ones."""

    def __init__(self, *numbered, **named):
        super().__init__()
        for name, module in [*enumerate(numbered), *named.items()]:
            self.add_module(str(name), module)


class Mean(nn.Module):
    """Global average pooling, [n, c, h, w] to [n, c, 1, 1]."""

    def forward(self, x):
        return avg_pool2d(x, x.shape[2:])


class BatchNormFromScratch(nn.Module):
    """The batch norm of the notes in training mode, with the statistics of the batch."""

    def __init__(self, channels, dims):
        super().__init__()
        shape = (1, channels, 1, 1)[:dims]
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        variance, mean = torch.var_mean(x, [0, 2, 3][:x.dim() - 1], correction=0, keepdim=True)
        return self.gamma * (x - mean) / (variance + 1e-5).sqrt() + self.beta


class Inception(nn.Module):
    """Four branches, concatenated along the channels."""

    def __init__(self, inputs, p1, p2, p3, p4):
        super().__init__()
        self.p1_1 = nn.Conv2d(inputs, p1, 1)
        self.p2_1, self.p2_2 = nn.Conv2d(inputs, p2[0], 1), nn.Conv2d(p2[0], p2[1], 3, padding=1)
        self.p3_1, self.p3_2 = nn.Conv2d(inputs, p3[0], 1), nn.Conv2d(p3[0], p3[1], 5, padding=2)
        self.p4_1, self.p4_2 = nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, p4, 1)

    def forward(self, x):
        branches = (self.p1_1(x), self.p2_2(relu(self.p2_1(x))), self.p3_2(relu(self.p3_1(x))), self.p4_2(self.p4_1(x)))
        return torch.cat([relu(branch) for branch in branches], 1)


class Residual(nn.Module):
    """A residual block; the shortcut is a 1x1 convolution if the size changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.conv3 = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else None
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + (x if self.conv3 is None else self.conv3(x)))


class Dense(nn.Module):
    """A dense block."""

    def __init__(self, inputs, layers, growth):
        super().__init__()
        self.net = nn.ModuleList(norm_relu_conv(inputs + growth * k, growth, 3) for k in range(layers))

    def forward(self, x):
        for layer in self.net:
            x = torch.cat((x, layer(x)), 1)
        return x


def norm_relu_conv(inputs, outputs, size, *more):
    return Chain(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, size, padding=size // 2), *more)


def lenet():
    conv = Chain(nn.Conv2d(1, 6, 5), nn.Sigmoid(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.MaxPool2d(2))
    fc = Chain(nn.Linear(256, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10))
    net = nn.Module()
    net.conv, net.fc = conv, fc
    net.forward = lambda x: fc(conv(x).flatten(1))
    return net


def lenet_bn(norm=lambda channels, dims: (nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d)(channels)):
    def conv(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 5), norm(outputs, 4), nn.Sigmoid(), nn.MaxPool2d(2)

    def linear(inputs, outputs):
        return nn.Linear(inputs, outputs), norm(outputs, 2), nn.Sigmoid()

    return Chain(*conv(1, 6), *conv(6, 16), nn.Flatten(), *linear(256, 120), *linear(120, 84), nn.Linear(84, 10))


def lenet_bn_scratch():
    return lenet_bn(BatchNormFromScratch)


def head(inputs, hidden):
    """Two hidden layers with dropout, and the output layer."""
    layers = []
    for size in (inputs, hidden):
        layers += [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout()]
    return [*layers, nn.Linear(hidden, 10)]


def alexnet():
    conv = Chain(
        nn.Conv2d(1, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2))
    fc = Chain(*head(6400, 4096))
    net = nn.Module()
    net.conv, net.fc = conv, fc
    net.forward = lambda x: fc(conv(x).flatten(1))
    return net


def vgg(divisor=1):
    blocks, inputs = {}, 1
    for number, (convs, outputs) in enumerate([(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)], 1):
        outputs //= divisor
        layers = []
        for _ in range(convs):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU()]
            inputs = outputs
        blocks[f"vgg_block_{number}"] = Chain(*layers, nn.MaxPool2d(2))
    return Chain(**blocks, fc=Chain(nn.Flatten(), *head(inputs * 49, 4096 // divisor)))


def vgg_small():
    return vgg(8)


def nin():
    def block(inputs, outputs, *how):
        convs = nn.Conv2d(inputs, outputs, *how), nn.Conv2d(outputs, outputs, 1), nn.Conv2d(outputs, outputs, 1)
        return Chain(*(layer for conv in convs for layer in (conv, nn.ReLU())))

    def pool():
        return nn.MaxPool2d(3, 2)

    return Chain(block(1, 96, 11, 4), pool(), block(96, 256, 5, 1, 2), pool(), block(256, 384, 3, 1, 1), pool(),
                 nn.Dropout(), block(384, 10, 3, 1, 1), Mean(), nn.Flatten())


def googlenet():
    def pool():
        return nn.MaxPool2d(3, 2, 1)

    return Chain(
        Chain(nn.Conv2d(1, 64, 7, 2, 3), nn.ReLU(), pool()),
        Chain(nn.Conv2d(64, 64, 1), nn.Conv2d(64, 192, 3, padding=1), pool()),
        Chain(Inception(192, 64, (96, 128), (16, 32), 32), Inception(256, 128, (128, 192), (32, 96), 64), pool()),
        Chain(Inception(480, 192, (96, 208), (16, 48), 64), Inception(512, 160, (112, 224), (24, 64), 64),
              Inception(512, 128, (128, 256), (24, 64), 64), Inception(512, 112, (144, 288), (32, 64), 64),
              Inception(528, 256, (160, 320), (32, 128), 128), pool()),
        Chain(Inception(832, 256, (160, 320), (32, 128), 128), Inception(832, 384, (192, 384), (48, 128), 128), Mean()),
        nn.Flatten(), nn.Linear(1024, 10))


def stem():
    return nn.Conv2d(1, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)


def resnet():
    blocks, inputs = {}, 64
    for number, outputs in enumerate([64, 128, 256, 512], 1):
        stride = 1 if outputs == inputs else 2
        blocks[f"resnet_block{number}"] = Chain(Residual(inputs, outputs, stride), Residual(outputs, outputs, 1))
        inputs = outputs
    return Chain(*stem(), **blocks, global_avg_pool=Mean(), fc=Chain(nn.Flatten(), nn.Linear(512, 10)))


def densenet():
    blocks, channels = {}, 64
    for number in range(4):
        blocks[f"DenseBlosk_{number}"] = Dense(channels, 4, 32)
        channels += 4 * 32
        if number < 3:
            blocks[f"transition_block_{number}"] = norm_relu_conv(channels, channels // 2, 1, nn.AvgPool2d(2))
            channels //= 2
    return Chain(*stem(), **blocks, BN=nn.BatchNorm2d(channels), relu=nn.ReLU(), global_avg_pool=Mean(),
                 fc=Chain(nn.Flatten(), nn.Linear(channels, 10)))
