"""What does PyTorch give for the base and for Retrain of the recipe cifar10-small-class0?

The first 1,000 training and 200 test pictures of each class by name, ResNet-18 at width 16, SGD 0.1 / 0.9 / 5e-4,
cosine over 15 epochs by the step, batches of 128, crops padded by 4 and flips. `--forget K` leaves class K out of the
training pictures and of the test accuracy.

    python benches/peers/small_recipe.py --data DIR [--forget 0] [--seeds 1 2 3]

prints one line a seed: accuracy on the pictures trained on, on those of class K, and on the test pictures.
"""

import argparse
import pathlib
import time

import numpy
import torch
from PIL import Image
from torch.nn import functional as F

from network import MEAN, STD, resnet18

EPOCHS, BATCH = 15, 128


def pictures(folder, each):
    xs, ys = [], []
    for label, group in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(group.iterdir())[:each]:
            xs.append(numpy.asarray(Image.open(path).convert("RGB")))
            ys.append(label)
    x = torch.from_numpy(numpy.stack(xs)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1), torch.tensor(ys)


def augment(x):
    """Crops of pictures padded by 4 (with black) and flips, each picture its own."""
    n, black = len(x), (-torch.tensor(MEAN) / torch.tensor(STD)).view(3, 1, 1)
    padded = F.pad(x - black, (4, 4, 4, 4)) + black
    rows, columns = torch.randint(9, (2, n))
    crops = [padded[i, :, r : r + 32, c : c + 32] for i, (r, c) in enumerate(zip(rows.tolist(), columns.tolist()))]
    x = torch.stack(crops)
    flip = torch.rand(n) < 0.5
    x[flip] = x[flip].flip(3)
    return x


def train(x, y, seed):
    torch.manual_seed(seed)
    model = resnet18(16).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(augment(x[batch])), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, x, y):
    hits = [(model(a).argmax(1) == b).sum() for a, b in zip(x.split(500), y.split(500))]
    return 100 * sum(hits).item() / max(len(y), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--forget", type=int, default=-1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (x, y), (test_x, test_y) = pictures(args.data / "train", 1000), pictures(args.data / "test", 200)
    keep, test_keep = y != args.forget, test_y != args.forget
    for seed in args.seeds:
        began = time.time()
        model = train(x[keep], y[keep], seed)
        seconds = time.time() - began
        trained, tested = accuracy(model, x[keep], y[keep]), accuracy(model, test_x[test_keep], test_y[test_keep])
        line = f"seed {seed}: trained on {trained:.1f}, test {tested:.1f}, {seconds:.0f} s"
        if not keep.all():
            line += f", forgotten class {accuracy(model, x[~keep], y[~keep]):.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
