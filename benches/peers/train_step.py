"""How many pictures a second does PyTorch train on?

The peer of benches/train_step.rs: ResNet-18 for 32x32 pictures at widths 64 and 16, batches of 32,
normalisation inside the model, SGD with momentum 0.9 and weight decay 5e-4, on the CPU. Each step takes
bytes and scales them, as the loader of the other side does.

    python benches/peers/train_step.py [--threads 2] [--widths 64 16] [--seconds 20]

prints one line a width: pictures a second, the median over the timed runs, and the range.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 32


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 with a 3x3 stem and no pooling after it."""

    def __init__(self, width, classes=10):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1))
        layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
        for stage in range(4):
            after = width << stage
            layers += [Block(before, after, 1 if stage == 0 else 2), Block(after, after, 1)]
            before = after
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.body((x - self.mean) / self.std)
        return self.fc(x.mean((2, 3)))


def measure(width, seconds):
    """Pictures a second of several runs."""
    torch.manual_seed(1)
    model = ResNet18(width).train()
    parameters = sum(p.numel() for p in model.parameters())
    assert width != 64 or parameters == 11_173_962, parameters
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    steps = 4 if width >= 64 else 24
    pictures = torch.randint(0, 256, (steps, BATCH, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (steps, BATCH))

    def epoch():
        for images, targets in zip(pictures, labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.float() / 255), targets)
            loss.backward()
            optimizer.step()

    epoch()
    rates = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        epoch()
        rates.append(steps * BATCH / (time.perf_counter() - began))
    return parameters, rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for width in arguments.widths:
        parameters, rates = measure(width, arguments.seconds)
        print(
            f"resnet18-w{width} ({parameters} parameters), batch {BATCH}, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads: {statistics.median(rates):.1f} pictures/s "
            f"({min(rates):.1f} to {max(rates):.1f}, {len(rates)} runs)"
        )


if __name__ == "__main__":
    main()
