"""Do the peers compute what they say? Each against another way to the same numbers, on a tiny network."""

import torch

import curvature
import flops
from curvature import flat
from network import CLASSES, noise, resnet18
from registry import PEERS


def tiny(dtype, width=4):
    """A network whose batch norms do something, in evaluation mode."""
    torch.manual_seed(1)
    net = resnet18(width).to(dtype).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return net


def counted_flops(net, image):
    """Two a multiply-add, as the layers see them."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        positions = output[0].numel() // module.weight.shape[0]
        total += 2 * module.weight.numel() * positions

    layers = [m for m in net.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    net(image)
    for hook in hooks:
        hook.remove()
    return total


def checks(dtype, n=6):
    """(what, error relative to the largest entry of a parameter, bound)."""
    rounding = 1e-4 if dtype == torch.float32 else 1e-10
    net = tiny(dtype)
    images, labels = noise(n, dtype)
    functions = {name: getattr(curvature, peer.function) for name, peer in PEERS.items()}
    run = {name: lambda batch=n, f=f: f(net, images, labels, batch) for name, f in functions.items()}

    def error(got, expected):
        pairs = list(zip(got, expected, strict=True))
        return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)

    # The rows g_n, by torch.func.
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    rows = [g.reshape(n, -1) for g in curvature.per_sample(net)(parameters, images, labels).values()]
    g = torch.cat(rows, 1)
    empirical = curvature.unflat(net, g.square().sum(0))
    yield "gradient = sum of the rows", error(run["gradient"](4), curvature.unflat(net, g.sum(0))), rounding
    for name in ("empirical-loop", "empirical-vmap", "backpack-empirical"):
        yield f"{name} = squares of the rows", error(run[name](4), empirical), rounding

    # The exact diagonal as the sum over logits of J^T (diag(p) - p p^T) J, from the Jacobian.
    def logits(given, x):
        return torch.func.functional_call(net, given, (x[None],))[0]

    jacobians = torch.func.vmap(torch.func.jacrev(logits), in_dims=(None, 0))(parameters, images)
    p = torch.softmax(net(images).detach(), 1)
    hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = [torch.einsum("nk...,nkl,nl...->...", j, hessian, j) for j in jacobians.values()]
    for name in ("exact-loop", "backpack-exact"):
        yield f"{name} = diagonal of J^T H J", error(run[name](4), exact), rounding
    yield "backpack-exact = exact-loop", error(run["backpack-exact"](), run["exact-loop"]()), rounding

    torch.manual_seed(3)
    sampled = curvature.backpack_mc(net, images, labels, n, draws=300)
    trace = sum(s.sum() for s in sampled) / sum(e.sum() for e in exact)
    yield "backpack-mc's trace over 300 draws", abs(trace.item() - 1), 0.1

    # A group of one is a sample, and sum_y p_y (grad of -log p_y)^2 then the exact diagonal.
    singles = curvature.group_mean_loop(net, images, labels, None, size=1)
    yield "group-mean-loop of ones = exact", error(singles, exact), rounding
    means = [torch.zeros_like(e) for e in exact]
    for label in range(CLASSES):
        mean = curvature.gradient(net, images, torch.full_like(labels, label), n)
        for total, part in zip(means, mean):
            total += p[:, label].mean() * (part / n).square()
    yield "group-mean-loop of all = squared mean gradients", error(run["group-mean-loop"](), means), rounding

    v = curvature.ones(net)
    ef = curvature.unflat(net, g.T @ (g @ v))
    yield "curvlinops-ef-vec = G^T G v", error(run["curvlinops-ef-vec"](4), ef), 10 * rounding
    jv = sum(j.reshape(n, CLASSES, -1).sum(2) for j in jacobians.values())
    weights = torch.einsum("nkl,nl->nk", hessian, jv)
    ggn = [torch.einsum("nk...,nk->...", j, weights) for j in jacobians.values()]
    yield "curvlinops-ggn-vec = J^T H J v", error(run["curvlinops-ggn-vec"](4), ggn), 10 * rounding

    # (I + g_0 s^T / N)^-1 v in closed form.
    first, rest = g[0], g[1:].sum(0)
    update = -first * (v @ rest / (n - 2 + first @ rest))
    yield "woodfisher-loop = its closed form", error([flat(run["woodfisher-loop"]()) - v], [update]), 10 * rounding

    # H k - v over v, with a damping that leaves the curvature its say: for k = v / damping the same is of order one.
    damping = 1e-3 * g.square().sum().item() / n
    k = flat(curvature.woodbury_explicit(net, images, labels, None, damping=damping))
    back = damping * k + g.T @ (g @ k) / n
    without = (g.T @ (g @ v) / n / damping).norm() / v.norm()
    assert without > 0.1, without
    yield "woodbury-explicit solves H k = v", ((back - v).norm() / v.norm()).item(), 10 * rounding

    counted = counted_flops(net, images[:1])
    yield "operations by the layers = by the formula", abs(counted / flops.forward(4) - 1), 0.0
    counted = sum(p.numel() for p in net.parameters())
    yield "parameters = by the formula", abs(counted / flops.parameters(4) - 1), 0.0


def main():
    """Prints a line a check; whether all held."""
    good = True
    for dtype in (torch.float64, torch.float32):
        # BackPACK's average pooling makes a convolution of the default type.
        torch.set_default_dtype(dtype)
        for what, error, bound in checks(dtype):
            held = error <= bound
            good &= held
            print(f"{'ok ' if held else 'BAD'} {str(dtype)[6:]}: {what}: {error:.1e} (at most {bound:.0e})", flush=True)
    return good
