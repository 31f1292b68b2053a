"""ResNet-18 for 32x32 pictures, of modules only and without in-place operations.

The same network as the library's `ResNetConfig::resnet18`: a 3x3 stem and no pooling after it (He et al.
2016). Every operation but the sum of a block is a module, as BackPACK's converter asks for.
"""

import torch
from torch import nn

CLASSES = 10
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet18(width):
    """The network on normalised pictures."""
    layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for stage in range(4):
        after = width << stage
        layers += [Block(before, after, 1 if stage == 0 else 2), Block(after, after, 1)]
        before = after
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))
    parameters = sum(p.numel() for p in net.parameters())
    assert width != 64 or parameters == 11_173_962, parameters
    return net


class Normalized(nn.Module):
    """A network that takes pictures with values from 0 to 1."""

    def __init__(self, net):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.net = net

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


def noise(n, dtype=torch.float32):
    """Pictures of noise, normalised, and labels in turn."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(n, 3, 32, 32, generator=generator, dtype=dtype)
    mean, std = (torch.tensor(c, dtype=dtype).view(1, 3, 1, 1) for c in (MEAN, STD))
    return (images - mean) / std, torch.arange(n) % CLASSES
