"""What does PyTorch give for the rows of the recipes cifar10-small-class0 and -random10?

The first 1,000 training and 200 test pictures of each class by name, ResNet-18 at width 16, SGD 0.1 / 0.9 / 5e-4,
cosine over 15 epochs by the step, batches of 128, crops padded by 4 and flips. FT: SGD 0.01, 3 epochs on the retain
set; GA: SGD 1e-4 and 1e-3, 5 epochs on the forget set, without augmentation; both with momentum, weight decay and
batch norms in training mode.

    python benches/peers/small_recipe.py --data DIR [--forget class:0 random:1000] [--init he|torch] [--seeds 1 2 3]
                                         [--methods original finetune ascent:1e-4 ascent:1e-3 retrain] [--threads 2]
                                         [--device cuda]

`--init torch` leaves PyTorch's first weights as they are; `--init he` draws those of convolutions from
N(0, 2 / fan-out), as torchvision's networks, the published code and this library do. `--forget numbers:FILE`
forgets the pictures numbered in a file (classes by name, pictures by name within a class, from 0). One line a row: UA,
RA, TA (without the class that is forgotten), and MIA by confidence (SVC, C = 3, RBF, gamma = 1, as the published
code), once with the first pictures of the retain set as members (of two classes, where pictures are sorted by class),
once with those spread evenly over it.
"""

import argparse
import copy
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
    n, black = len(x), (-torch.tensor(MEAN) / torch.tensor(STD)).view(3, 1, 1).to(x.device)
    padded = F.pad(x - black, (4, 4, 4, 4)) + black
    rows, columns = (offset[:, None] + torch.arange(32) for offset in torch.randint(9, (2, n)))
    x = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    flip = torch.rand(n) < 0.5
    x[flip] = x[flip].flip(3)
    return x


def first_weights(seed, init, device):
    torch.manual_seed(seed)
    model = resnet18(16)
    if init == "he":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model.train().to(device)


def descend(model, x, y, epochs, rate, cosine=False, augmented=True, sign=1):
    """SGD with momentum and weight decay on the mean cross-entropy times `sign`."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if cosine else None
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            images = augment(x[batch]) if augmented else x[batch]
            (sign * F.cross_entropy(model(images), y[batch])).backward()
            optimizer.step()
            if schedule:
                schedule.step()
    return model.eval()


def train(model, x, y):
    return descend(model, x, y, EPOCHS, 0.1, cosine=True)


@torch.no_grad()
def probabilities(model, x):
    return torch.cat([F.softmax(model(part), 1) for part in x.split(500)])


def accuracy(p, y):
    return 100 * (p.argmax(1) == y).float().mean().item()


def attack(members, others, targets):
    """Percentage of `targets` that an SVC on the confidence in the label takes for pictures never learnt from."""
    confidence = [p.gather(1, y[:, None]).cpu().numpy() for p, y in (members, others, targets)]
    labels = numpy.r_[numpy.ones(len(confidence[0])), numpy.zeros(len(confidence[1]))]
    svc = SVC(C=3, kernel="rbf", gamma=1).fit(numpy.concatenate(confidence[:2]), labels)
    return 100 * (svc.predict(confidence[2]) == 0).mean()


def row(title, model, data, forget, tested):
    """Prints what `model` answers; `forget` marks training pictures, `tested` the test pictures that count."""
    (x, y), (test_x, test_y) = data
    p, test_p = probabilities(model, x), probabilities(model, test_x)
    retain, test = (p[~forget], y[~forget]), (test_p[tested], test_y[tested])
    n = min(len(test[1]), len(retain[1]))
    spread = (torch.arange(n) * len(retain[1])) // n
    mia = [attack([a[i] for a in retain], test, (p[forget], y[forget])) for i in (slice(n), spread)]
    print(
        f"{title}: UA {100 - accuracy(p[forget], y[forget]):.1f}, RA {accuracy(*retain):.1f}, "
        f"TA {accuracy(*test):.1f}, MIA first {mia[0]:.1f}, spread {mia[1]:.1f}; "
        f"all of training {accuracy(p, y):.1f}, all of test {accuracy(test_p, test_y):.1f}",
        flush=True,
    )


def forgotten(text, seed, y, test_y):
    """Marks the training pictures that are forgotten, and the test pictures that count."""
    rule, value = text.split(":", 1)
    forget, tested = torch.zeros_like(y, dtype=torch.bool), torch.ones_like(test_y, dtype=torch.bool)
    if rule == "class":
        forget, tested = y == int(value), test_y != int(value)
    elif rule == "random":
        draw = torch.Generator().manual_seed(seed)
        forget[torch.randperm(len(y), generator=draw)[: int(value)]] = True
    else:
        forget[[int(line) for line in pathlib.Path(value).read_text().split()]] = True
    return forget, tested


def run(method, base, seed, args, data, forget):
    """The model that `method` makes."""
    (x, y), _ = data
    name, _, rate = method.partition(":")
    torch.manual_seed(1000 + seed)
    if name == "original":
        return base
    if name == "retrain":
        return train(first_weights(seed, args.init, args.device), x[~forget], y[~forget])
    if name == "finetune":
        return descend(copy.deepcopy(base), x[~forget], y[~forget], 3, 0.01)
    if name == "ascent":
        return descend(copy.deepcopy(base), x[forget], y[forget], 5, float(rate), augmented=False, sign=-1)
    raise SystemExit(f"--methods {method}: expected original, retrain, finetune or ascent:RATE")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--forget", nargs="+", default=["class:0"], help="class:K, random:COUNT or numbers:FILE")
    every = ["original", "finetune", "ascent:1e-4", "ascent:1e-3", "retrain"]
    parser.add_argument("--methods", nargs="+", default=every)
    parser.add_argument("--init", choices=["he", "torch"], default="he")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False
    folders = (args.data / "train", 1000), (args.data / "test", 200)
    data = tuple(tuple(part.to(args.device) for part in pictures(*folder)) for folder in folders)
    (x, y), (_, test_y) = data
    needs_base = any(not method.startswith("retrain") for method in args.methods)
    for seed in args.seeds:
        base = train(first_weights(seed, args.init, args.device), x, y) if needs_base else None
        for text in args.forget:
            forget, tested = forgotten(text, seed, y, test_y)
            for method in args.methods:
                began = time.time()
                model = run(method, base, seed, args, data, forget)
                title = f"{text} {method}, {args.init}, seed {seed}, {time.time() - began:.0f} s"
                row(title, model, data, forget, tested)


if __name__ == "__main__":
    main()
