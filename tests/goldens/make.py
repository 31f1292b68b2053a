#!/usr/bin/env python3
"""Makes a folder of reference numbers for the parity tests (tests/it/parity): a residual network, a vision transformer and
adapters of any size.

Needs torch, numpy, scikit-learn, safetensors, transformers and peft; nothing of this project is used. See README.md beside
this file.
Everything is computed as the formulas say, one sample at a time and in float64 where derivatives are asked for: this is
an oracle, so it is written to be plainly right and not to be fast.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformer
from safetensors.torch import load_file, save_file
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
# The public code's Fisher estimate goes in batches of this many retain samples.
FISHER_BATCH = 32


# The network: torchvision's names, CIFAR stem, the normalization as a module with buffers.


class Normalize(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x):
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, width, blocks, classes):
        super().__init__()
        self.normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width << stage
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layers = []
            for stride in strides:
                layers.append(Block(inputs, outputs, stride))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(self.normalize(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def randomize(model, rng):
    """Random weights and BatchNorm statistics, so that no entry has a value a fresh network would have."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", generator=rng)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1.0, 0.25, generator=rng)
            module.bias.data.normal_(0.0, 0.15, generator=rng)
            module.running_mean.normal_(0.0, 0.1, generator=rng)
            module.running_var.uniform_(0.5, 1.5, generator=rng)
        elif isinstance(module, nn.Linear):
            # Small enough that not every sample is certain of its class.
            nn.init.normal_(module.weight, std=0.5 / module.in_features**0.5, generator=rng)
            nn.init.normal_(module.bias, std=0.1, generator=rng)


def named(prefix, tree):
    return {f"{prefix}.{name}": value for name, value in tree.items()}


def parameters(model):
    return {name: p for name, p in model.named_parameters()}


def convolutions(model):
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


# resnet_io: logits, gradients of a batch in training mode, three steps of SGD.


def copy_of(sizes, state, dtype=torch.float32):
    model = ResNet(sizes["width"], sizes["blocks"], sizes["classes"])
    model.load_state_dict(state)
    return model.to(dtype)


def outputs_and_steps(sizes, state, x, y, dtype=torch.float32):
    x = x.to(dtype)
    model = copy_of(sizes, state, dtype).eval()
    out = {"x": x, "y": y}
    with torch.no_grad():
        out["logits_eval"] = model(x)

    model = copy_of(sizes, state, dtype).train()
    logits = model(x)
    out["logits_train"] = logits.detach()
    F.cross_entropy(logits, y).backward()
    out |= named("grad_train", {name: p.grad for name, p in parameters(model).items()})

    model = copy_of(sizes, state, dtype).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out["losses_train"] = torch.tensor(losses)
    after = {name: value for name, value in model.state_dict().items() if not name.startswith("normalize.")}
    return out | named("after3", after | {n: v for n, v in state.items() if n.startswith("normalize.")})


def away_from_kinks(sizes, state, rng, side):
    """Pictures for which no ReLU is so near its kink that float32 and float64 could fall on different sides of it.

    A unit that does moves whole gradients, which says nothing of who computed them. Of four times as many pictures
    those are taken whose nearest unit is furthest off.
    """
    n = sizes["samples"]
    model = copy_of(sizes, state).eval()
    margins = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, inputs, __: margins.append(inputs[0].abs().amin((1, 2, 3))))
    x = torch.rand(4 * n, 3, side, side, generator=rng)
    with torch.no_grad():
        model(x)
    return x[torch.stack(margins).amin(0).argsort(descending=True)[:n]]


def well_posed(sizes, state, rng, side):
    """Pictures and labels for which float32 training agrees with float64: here batches decide, so all are drawn anew."""
    best = None
    for _ in range(12):
        x = away_from_kinks(sizes, state, rng, side)
        y = torch.randint(sizes["classes"], (sizes["samples"],), generator=rng)
        single, double = (outputs_and_steps(sizes, state, x, y, dtype) for dtype in (torch.float32, torch.float64))
        off = max(differences(single, {name: value.to(single[name].dtype) for name, value in double.items()}).values())
        if best is None or off < best[0]:
            best = (off, x, y)
        if off < 2e-5:
            break
    off, x, y = best
    if off > 5e-5:
        print(f"float32 training is {off:.0e} off float64: the tests allow 1e-4; take another --seed", file=sys.stderr)
    return x, y


# Curvature: evaluation mode, float64, one sample at a time.


class Flat:
    """A network's trainable parameters as one vector, in the order of `named_parameters`."""

    def __init__(self, model):
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [p for _, p in model.named_parameters()]

    def gradient(self, scalar, keep=False):
        grads = torch.autograd.grad(scalar, self.parameters, retain_graph=keep)
        return torch.cat([g.reshape(-1) for g in grads])

    def tree(self, vector):
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        return {
            name: part.reshape(p.shape).to(torch.float32)
            for name, part, p in zip(self.names, parts, self.parameters)
        }


def curvature(sizes, state, x, y):
    flat = Flat(copy_of(sizes, state, torch.float64).eval())
    x, classes, n_f = x.double(), sizes["classes"], sizes["forget_first"]
    n = len(y)
    n_r = n - n_f
    gradients, exact = [], 0
    for i in range(n):
        log_p = F.log_softmax(flat.model(x[i : i + 1])[0], 0)
        for c in range(classes):
            g = flat.gradient(-log_p[c], keep=True)
            exact = exact + log_p[c].exp().detach() * g.square()
            if c == y[i]:
                gradients.append(g)
    G = torch.stack(gradients)
    gram = G @ G.T
    out = {"gram": gram, "norms_sq": G.square().sum(1)}
    out |= named("empirical_sum", flat.tree(G.square().sum(0)))
    out |= named("exact_sum", flat.tree(exact))

    # Influence: v = (1/n) sum over forget - n_f/(n n_r) sum over retain.
    R = G[n_f:]
    v = G[:n_f].sum(0) / n - (n_f / (n * n_r)) * R.sum(0)
    out |= named("iu_v", flat.tree(v))
    for name, damping in (("1", 1.0), ("0.001", 1e-3)):
        # (damping I + R^T R / n_r)^-1 v by the Woodbury identity: an n_r x n_r solve.
        inner = damping * n_r * torch.eye(n_r, dtype=torch.float64) + R @ R.T
        solution = (v - R.T @ torch.linalg.solve(inner, R @ v)) / damping
        out |= named(f"iu_woodbury_lambda{name}", flat.tree(solution))
    # The public code's recursion: the second vector is only ever scaled, never renewed.
    k, o, N = v.clone(), R[0].clone(), 1000
    for index in range(1, min(n_r, N + 2)):
        g = R[index]
        t = torch.dot(o, g)
        k = k - torch.dot(k, g) / (N + t) * o
        o = o - t / (N + t) * o
    out |= named("iu_reference", flat.tree(k))

    # The public code's older Fisher estimate, on d log p(y): minus the gradient of the loss.
    older = (-R + 1e-8).square().mean(0)
    out |= named("fisher_reference", flat.tree(older))
    newer, batches = 0, 0
    for start in range(n_f, n, FISHER_BATCH):
        log_p = F.log_softmax(flat.model(x[start : min(start + FISHER_BATCH, n)]), 1)
        p = log_p.exp().mean(0).detach()
        for c in range(classes):
            newer = newer + p[c] * flat.gradient(-log_p[:, c].mean(), keep=True).square()
        batches += 1
    newer = newer / batches
    out |= named("fisher_new_reference", flat.tree(newer))

    alpha, offset = 1e-3, 0
    for name, parameter in zip(flat.names, flat.parameters):
        F_j = newer[offset : offset + parameter.numel()].reshape(parameter.shape)
        offset += parameter.numel()
        # The public code takes any tensor with as many rows as classes for the classifier.
        rows_are_classes = len(parameter) == classes
        variance = (1 / (F_j + 1e-8)).clamp(max=1e3)
        if rows_are_classes:
            variance = variance.clamp(max=1e2)
        variance = alpha * variance
        if variance.ndim > 1:
            variance = variance.mean(1, keepdim=True).expand(parameter.shape)
        if rows_are_classes or variance.ndim == 1:
            variance = variance * 10
        out[f"fisher_new_var.{name}"] = variance.float().contiguous()
    return out


# Pruning.


def magnitude(model, amount):
    prunable = [(module, "weight") for _, module in convolutions(model)]
    prune.global_unstructured(prunable, pruning_method=prune.L1Unstructured, amount=amount)
    return {f"{name}.weight": module.weight_mask.to(torch.uint8) for name, module in convolutions(model)}


def pruning(sizes, state, x, y):
    out = {}
    model = copy_of(sizes, state)
    for round_ in (1, 2, 3):
        out |= named(f"l1_round{round_}", magnitude(model, 0.2))
    out |= named("l1_95", magnitude(copy_of(sizes, state), 0.95))

    names = [f"{name}.weight" for name, _ in convolutions(model)]

    def double():
        model = copy_of(sizes, state, torch.float64).eval()
        return model, [module.weight for _, module in convolutions(model)]

    def scores(prefix, values):
        return {f"{prefix}.{name}": value.detach().float() for name, value in zip(names, values)}

    model, weights = double()
    loss = F.cross_entropy(model(x.double()), y)
    gradients = torch.autograd.grad(loss, weights)
    out |= scores("snip_score", [(w * g).abs() for w, g in zip(weights, gradients)])

    loss = F.cross_entropy(model(x.double()) / 200, y)
    # The gradient flow is that of all parameters, though only convolutions are scored.
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    inner = sum((g * g.detach()).sum() for g in gradients)
    products = torch.autograd.grad(inner, weights)
    out |= scores("grasp_score", [-w * h for w, h in zip(weights, products)])

    model, weights = double()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.abs_()
    response = model(torch.ones(1, *x.shape[1:], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(response, weights)
    return out | scores("synflow_score", [(w * g).abs() for w, g in zip(weights, gradients)])


def checkpoint(sizes, state, rate):
    """What the public training script saves after a round of magnitude pruning."""
    model = copy_of(sizes, state)
    magnitude(model, rate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {
        "state": 1,
        "result": {"train_ta": [99.0], "val_ta": [94.0], "test_ta": []},
        "epoch": 182,
        "state_dict": model.state_dict(),
        "best_sa": 94.0,
        "optimizer": optimizer.state_dict(),
        "scheduler": None,
        "init_weight": None,
    }


# Membership inference with scikit-learn's SVC.


def softmax_tables(classes, rng):
    """Members are told from the others a little, as in a network that has been trained."""
    tables = {}
    for name, count, strength in (
        ("shadow_train", 400, 3.0),
        ("shadow_test", 400, 2.0),
        ("target_train", 300, 3.0),
        ("target_test", 200, 2.0),
    ):
        y = rng.integers(0, classes, count)
        logits = rng.normal(0, 1.5, (count, classes))
        logits[np.arange(count), y] += strength
        tables[f"{name}.p"] = torch.tensor(logits, dtype=torch.float32).softmax(1)
        tables[f"{name}.y"] = torch.tensor(y, dtype=torch.int64)
    return tables


def features(p, y):
    """The five features of the public attack, in float32 as there."""
    log_p = torch.where(p > 0, p.log(), torch.zeros(()))
    # As published it would be log(1 - p) for the other classes, and the true class of each row apart from them. The
    # public code takes log p everywhere and turns round every column whose class is some row's label.
    turned = torch.where(torch.isin(torch.arange(p.shape[1]), y), 1 - p, p)
    each = {
        "correctness": (p.argmax(1) == y).float(),
        "confidence": p[torch.arange(len(y)), y],
        "entropy": -(p * log_p).sum(1),
        "m_entropy": -(turned * log_p).sum(1),
        "prob": p,
    }
    return {name: value.reshape(len(y), -1).numpy() for name, value in each.items()}


def attacks(tables):
    names = ("shadow_train", "shadow_test", "target_train", "target_test")
    of = {name: features(tables[f"{name}.p"], tables[f"{name}.y"]) for name in names}
    out = {"forget_efficacy": {}, "training_privacy": {}}
    for feature in of["shadow_train"]:
        members, others = of["shadow_train"][feature], of["shadow_test"][feature]
        labels = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
        attack = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([members, others]), labels)
        member_rate = attack.predict(of["target_train"][feature]).mean()
        other_rate = 1 - attack.predict(of["target_test"][feature]).mean()
        out["forget_efficacy"][feature] = float(other_rate)
        out["training_privacy"][feature] = float((member_rate + other_rate) / 2)
    return out


def splits():
    def per_class(seed):
        rng = np.random.RandomState(seed)
        return [rng.choice(5000, 500, replace=False).tolist() for _ in range(10)]

    return {
        "note": "RandomState(seed).choice(n, k, replace=False) of NumPy's legacy generator",
        "validation_seed1_10x5000": per_class(1),
        "validation_seed2_10x5000": per_class(2),
        "random_forget_seed1_45000_4500": np.random.RandomState(1).choice(45000, 4500, replace=False).tolist(),
    }


# Writing, and comparison with a folder made elsewhere.


def differences(new, old):
    """The largest difference of any tensor under each prefix, as a share of that tensor's largest entry."""
    assert new.keys() == old.keys(), sorted(new.keys() ^ old.keys())[:10]
    worst = {}
    # What is zero but for rounding (the gradient of the keys' bias in attention) is not compared with itself.
    least = 1e-20 * max(value.double().abs().max().item() for value in old.values())
    for name, a in new.items():
        b = old[name]
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (name, a.shape, b.shape, a.dtype, b.dtype)
        a, b = a.double(), b.double()
        off = ((a - b).abs().max() / b.abs().max().clamp(min=max(least, 1e-300))).item()
        assert np.isfinite(off), f"{name} is not finite"
        prefix = name.split(".")[0]
        worst[prefix] = max(worst.get(prefix, 0.0), off)
    return worst


def compare(new, old):
    """Prints how far two folders are apart; whether they agree."""
    agree = True
    for file in sorted(new.rglob("*.safetensors")):
        name = file.relative_to(new)
        for prefix, off in differences(load_file(file), load_file(old / name)).items():
            # Float32 training in another order of addition, and an ill-conditioned solve, are a little off.
            ok = off <= 2e-4
            agree &= ok
            print(f"{str(name):44} {prefix:24} {off:.1e}{'' if ok else '  DIFFERS'}")
    for file in ("spec.json", "splits.json", "mia.json"):
        a, b = (json.loads((folder / file).read_text()) for folder in (new, old))
        if file == "mia.json":
            off = max(abs(a[kind][f] - b[kind][f]) for kind in b for f in b[kind])
            ok = off <= 1e-9
        else:
            off, ok = "", all(a[key] == b[key] for key in a)
        agree &= ok
        print(f"{file:24} {'equal' if ok else 'DIFFERS'} {off}")
    a, b = (torch.load(folder / "pruned_checkpoint.pth.tar", weights_only=True) for folder in (new, old))
    off = max(differences(a["state_dict"], b["state_dict"]).values())
    ok = off == 0 and a.keys() == b.keys()
    print(f"{'pruned_checkpoint':24} {'equal' if ok else 'DIFFERS'} {off}")
    return agree and ok


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--width", type=int, default=6, help="channels of the first stage")
    parser.add_argument("--blocks", type=int, nargs=4, default=[1, 2, 1, 1], help="blocks of the four stages")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--forget-first", type=int, default=5, help="samples of the forget set")
    parser.add_argument("--side", type=int, default=32, help="height and width of a picture")
    parser.add_argument("--rate", type=float, default=0.5, help="share pruned in the checkpoint")
    for key, value in (("image", 24), ("patch", 6), ("hidden", 40), ("layers", 2), ("heads", 5), ("mlp", 72)):
        parser.add_argument(f"--vit-{key}", type=int, default=value, help="of the vision transformer")
    parser.add_argument("--vit-classes", type=int, default=6)
    parser.add_argument("--vit-samples", type=int, default=3)
    parser.add_argument("--lora-rank", type=int, default=3, help="of the adapters on both networks")
    parser.add_argument("--lora-alpha", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", type=Path, help="take sizes, weights and inputs from this folder and compare with it")
    args = parser.parse_args()
    torch.set_num_threads(1)

    if args.like:
        sizes = json.loads((args.like / "spec.json").read_text())["resnet"]
        state = load_file(args.like / "resnet.safetensors")
        io = load_file(args.like / "resnet_io.safetensors")
        x, y = io["x"], io["y"]
        tables = load_file(args.like / "mia.safetensors")
        pruned = torch.load(args.like / "pruned_checkpoint.pth.tar", weights_only=True)["state_dict"]
        kept = torch.cat([m.reshape(-1) for name, m in pruned.items() if name.endswith("_mask")])
        args.rate = 1 - kept.double().mean().item()
        vit, lora = transformer.sizes_of(args.like)
    else:
        sizes = {key: getattr(args, key) for key in ("width", "classes", "blocks", "samples", "forget_first")}
        if not 0 < args.forget_first < args.samples:
            parser.error("--forget-first must leave retain samples and take some")
        keys = ("hidden", "layers", "heads", "mlp", "image", "patch", "classes", "samples")
        vit = {key: getattr(args, f"vit_{key}") for key in keys}
        lora = {"rank": args.lora_rank, "alpha": args.lora_alpha}
        rng = torch.Generator().manual_seed(args.seed)
        model = ResNet(args.width, args.blocks, args.classes)
        randomize(model, rng)
        state = model.state_dict()
        x, y = well_posed(sizes, state, rng, args.side)
        tables = softmax_tables(args.classes, np.random.default_rng(args.seed))

    args.out.mkdir(parents=True, exist_ok=True)

    def tensors(file, values):
        save_file({name: value.detach().contiguous() for name, value in values.items()}, args.out / file)

    def text(file, value):
        (args.out / file).write_text(json.dumps(value, indent=1))

    text("spec.json", {"resnet": sizes, "vit": vit, "lora": lora})
    text("splits.json", splits())
    text("mia.json", attacks(tables))
    tensors("mia.safetensors", tables)
    tensors("resnet.safetensors", state)
    tensors("resnet_io.safetensors", outputs_and_steps(sizes, state, x, y))
    tensors("prune.safetensors", pruning(sizes, state, x, y))
    tensors("curvature.safetensors", curvature(sizes, state, x, y))
    residual = lambda: copy_of(sizes, state).eval()
    transformer.make(args.out, tensors, vit, lora, residual, x, args.seed, args.like)
    torch.save(checkpoint(sizes, state, args.rate), args.out / "pruned_checkpoint.pth.tar")
    if args.like and not compare(args.out, args.like):
        sys.exit("the numbers differ")


if __name__ == "__main__":
    main()
