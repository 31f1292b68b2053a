"""What does PyTorch give for the base and for Retrain of the recipes cifar10-small-class0 and -random10?

The first 1,000 training and 200 test pictures of each class by name, ResNet-18 at width 16, SGD 0.1 / 0.9 / 5e-4,
cosine over 15 epochs by the step, batches of 128, crops padded by 4 and flips.

    python benches/peers/small_recipe.py --data DIR [--forget class:0|random:1000] [--retrain] [--init he|torch]
                                         [--seeds 1 2 3] [--threads 2]

Without `--retrain` the network learns from every picture, with it from those that are not forgotten. `--init torch`
leaves PyTorch's first weights as they are; `--init he` draws those of convolutions from N(0, 2 / fan-out), as
torchvision's networks, the published code and this library do. One line a seed: UA, RA, TA (without the class that is
forgotten), and MIA by confidence (SVC, C = 3, RBF, gamma = 1, as the published code) whose members are the first
pictures of the retain set, of few classes in a folder, and those spread evenly over it.
"""

import argparse
import pathlib
import time

import numpy
import torch
from PIL import Image
from sklearn.svm import SVC
from torch import nn
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


def first_weights(seed, init):
    torch.manual_seed(seed)
    model = resnet18(16)
    if init == "he":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.train()


def train(model, x, y):
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
def probabilities(model, x):
    return torch.cat([F.softmax(model(part), 1) for part in x.split(500)])


def accuracy(p, y):
    return 100 * (p.argmax(1) == y).float().mean().item()


def attack(members, others, targets):
    """Percentage of `targets` that an SVC on the confidence in the label takes for pictures never learnt from."""
    confidence = [p.gather(1, y[:, None]).numpy() for p, y in (members, others, targets)]
    labels = numpy.r_[numpy.ones(len(confidence[0])), numpy.zeros(len(confidence[1]))]
    svc = SVC(C=3, kernel="rbf", gamma=1).fit(numpy.concatenate(confidence[:2]), labels)
    return 100 * (svc.predict(confidence[2]) == 0).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--forget", default="class:0")
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--init", choices=["he", "torch"], default="he")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (x, y), (test_x, test_y) = pictures(args.data / "train", 1000), pictures(args.data / "test", 200)
    rule, number = args.forget.split(":")
    for seed in args.seeds:
        if rule == "class":
            forget, tested = y == int(number), test_y != int(number)
        else:
            forget, tested = torch.zeros(len(y), dtype=torch.bool), torch.ones(len(test_y), dtype=torch.bool)
            draw = torch.Generator().manual_seed(seed)
            forget[torch.randperm(len(y), generator=draw)[: int(number)]] = True
        began = time.time()
        model = first_weights(seed, args.init)
        model = train(model, x[~forget], y[~forget]) if args.retrain else train(model, x, y)
        seconds = time.time() - began
        p, test_p = probabilities(model, x), probabilities(model, test_x)
        retain, test = (p[~forget], y[~forget]), (test_p[tested], test_y[tested])
        n = len(test[1])
        spread = (torch.arange(n) * len(retain[1])) // n
        mia = [attack([a[i] for a in retain], test, (p[forget], y[forget])) for i in (slice(n), spread)]
        print(
            f"{args.forget} {'retrain' if args.retrain else 'original'}, {args.init}, seed {seed}: "
            f"UA {100 - accuracy(p[forget], y[forget]):.1f}, RA {accuracy(*retain):.1f}, TA {accuracy(*test):.1f}, "
            f"MIA first {mia[0]:.1f}, spread {mia[1]:.1f}; trained on {accuracy(p, y):.1f}, "
            f"all of test {accuracy(test_p, test_y):.1f}, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
