"""How many pictures a second does PyTorch train on?

The peer of benches/train_step.rs: ResNet-18 for 32x32 pictures at widths 64 and 16, batches of 32,
normalisation inside the model, SGD with momentum 0.9 and weight decay 5e-4, on the CPU unless `--device cuda` is
given. Each step takes bytes and scales them, and reads the loss, as the loop of the other side does.

    python benches/peers/train_step.py [--threads 2] [--widths 64 16] [--seconds 20] [--device cuda [--tf32]]

prints one line a width: pictures a second, the median over the timed runs, and the range.
"""

import argparse
import math
import statistics
import time

import torch
from torch.nn import functional as F

from network import Normalized, resnet18

BATCH = 32


def measure(width, seconds, device):
    """Pictures a second of several runs."""
    torch.manual_seed(1)
    model = Normalized(resnet18(width)).train().to(device)
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    steps = 4 if width >= 64 else 24
    pictures = torch.randint(0, 256, (steps, BATCH, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(0, 10, (steps, BATCH))

    def epoch():
        for images, targets in zip(pictures, labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images.to(device).float() / 255), targets.to(device))
            loss.backward()
            optimizer.step()
            assert math.isfinite(loss.item())

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
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tf32", action="store_true", help="on cuda: products of 10-bit mantissas")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    for width in arguments.widths:
        parameters, rates = measure(width, arguments.seconds, arguments.device)
        print(
            f"resnet18-w{width} ({parameters} parameters), batch {BATCH}, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads: {statistics.median(rates):.1f} pictures/s "
            f"({min(rates):.1f} to {max(rates):.1f}, {len(rates)} runs)"
        )


if __name__ == "__main__":
    main()
