"""What a PyTorch user has for Fisher diagonals and inverse-Fisher products, on a CPU.

Every function takes (net, images, labels, batch) and returns sums over pictures, one tensor a parameter, unless
it says otherwise. n pictures, k classes, p parameters, g_n = the gradient of -log softmax(z_n)[label], z = logits.
"""

import copy
import functools

import torch
from torch import func
from torch.nn import functional as F

from network import CLASSES


def batches(images, labels, batch):
    return zip(images.split(batch), labels.split(batch))


def zeros(net):
    return [torch.zeros_like(p) for p in net.parameters()]


def gradient(net, images, labels, batch):
    """Sum of g_n: the price of any first-order step."""
    total = zeros(net)
    for x, y in batches(images, labels, batch):
        loss = F.cross_entropy(net(x), y, reduction="sum")
        torch._foreach_add_(total, torch.autograd.grad(loss, list(net.parameters())))
    return total


def sample_gradients(net, images, labels):
    """g_n one after the other, by a forward and a backward pass of batch size one each."""
    parameters = list(net.parameters())
    for x, y in batches(images, labels, 1):
        yield torch.autograd.grad(F.cross_entropy(net(x), y), parameters)


def empirical_loop(net, images, labels, _):
    """Sum of g_n squared, a backward pass a sample."""
    total = zeros(net)
    for gradients in sample_gradients(net, images, labels):
        torch._foreach_addcmul_(total, gradients, gradients)
    return total


def exact_loop(net, images, labels, _):
    """Sum over n and y of p_ny (gradient of log p_ny) squared: k backward passes a sample."""
    parameters = list(net.parameters())
    total = zeros(net)
    for x, _ in batches(images, labels, 1):
        log_p = F.log_softmax(net(x), 1)[0]
        for label, probability in enumerate(log_p.detach().exp().tolist()):
            gradients = torch.autograd.grad(log_p[label], parameters, retain_graph=label + 1 < CLASSES)
            torch._foreach_addcmul_(total, gradients, gradients, value=probability)
    return total


def group_mean_loop(net, images, labels, _, size=32):
    """Sum over groups B of `size` and classes y of mean p_ny (gradient of mean -log p_ny) squared: the published
    estimator's quantity, k backward passes a group."""
    parameters = list(net.parameters())
    total = zeros(net)
    for x, _ in batches(images, labels, size):
        log_p = F.log_softmax(net(x), 1)
        weights = log_p.detach().exp().mean(0).tolist()
        for label, weight in enumerate(weights):
            loss = -log_p[:, label].mean()
            gradients = torch.autograd.grad(loss, parameters, retain_graph=label + 1 < CLASSES)
            torch._foreach_addcmul_(total, gradients, gradients, value=weight)
    return total


def per_sample(net):
    """(parameters, pictures, labels) -> g_n stacked, by torch.func."""

    def loss(parameters, x, y):
        return F.cross_entropy(func.functional_call(net, parameters, (x[None],)), y[None])

    return func.vmap(func.grad(loss), in_dims=(None, 0, 0))


def empirical_vmap(net, images, labels, batch):
    """Sum of g_n squared through torch.func, `batch` explicit gradients at a time."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    gradients_of = per_sample(net)
    total = zeros(net)
    for x, y in batches(images, labels, batch):
        for sum_, gradients in zip(total, gradients_of(parameters, x, y).values()):
            sum_ += gradients.square_().sum(0)
    return total


@functools.lru_cache(maxsize=1)
def extended(net):
    """A copy of `net` with BackPACK's hooks, which other peers would stumble over."""
    from backpack import extend

    copy_ = extend(copy.deepcopy(net), use_converter=True).eval()
    assert dict(copy_.named_parameters()).keys() == dict(net.named_parameters()).keys()
    return copy_


def backpack(extension, attribute):
    """A diagonal by BackPACK's `extension`, which leaves it in `attribute` of every parameter."""

    def run(net, images, labels, batch):
        from backpack import backpack as using
        from backpack import extend

        model = extended(net)
        loss = extend(torch.nn.CrossEntropyLoss(reduction="sum"))
        parameters = dict(model.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for x, y in batches(images, labels, batch):
            value = loss(model(x), y)
            with using(extension()):
                value.backward()
            for name, p in parameters.items():
                total[name] += getattr(p, attribute)
                delattr(p, attribute)
                p.grad = None
        return [total[name] for name, _ in net.named_parameters()]

    return run


def backpack_empirical(*given):
    """Sum of g_n squared by SumGradSquared."""
    from backpack.extensions import SumGradSquared

    return backpack(SumGradSquared, "sum_grad_squared")(*given)


def backpack_mc(*given, draws=1):
    """The diagonal with one label a sample drawn from the prediction, by DiagGGNMC."""
    from backpack.extensions import DiagGGNMC

    return backpack(lambda: DiagGGNMC(mc_samples=draws), "diag_ggn_mc")(*given)


def backpack_exact(*given):
    """The diagonal itself, by DiagGGNExact."""
    from backpack.extensions import DiagGGNExact

    return backpack(DiagGGNExact, "diag_ggn_exact")(*given)


def curvlinops(name, net, images, labels, batch):
    """curvlinops' matrix `name`, a sum over pictures, times a vector of ones. Version 3.0.1 has no diagonal of a
    Fisher matrix other than by products with random vectors, over all pictures at once."""
    import curvlinops as operators

    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    parameters = list(net.parameters())
    data = list(batches(images, labels, batch))
    matrix = getattr(operators, name)(net, loss, parameters, data, check_deterministic=False)
    return matrix @ [torch.ones_like(p) for p in parameters]


def curvlinops_ef(*given):
    """G^T G v: what a step of conjugate gradients on the empirical Fisher matrix costs."""
    return curvlinops("EFLinearOperator", *given)


def curvlinops_ggn(*given):
    """sum J^T H J v: what a draw of Hutchinson's estimate of its diagonal costs."""
    return curvlinops("GGNLinearOperator", *given)


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def unflat(net, values):
    parts = values.split([p.numel() for p in net.parameters()])
    return [part.view_as(p) for part, p in zip(parts, net.parameters())]


def ones(net):
    return torch.ones(sum(p.numel() for p in net.parameters()), dtype=next(net.parameters()).dtype)


def woodfisher_loop(net, images, labels, _):
    """The published recursion on v = 1, with N = the samples but two: k = v, o = g_0; then for each further g
    t = <o, g>, k -= o <k, g> / (N + t), o -= o t / (N + t). Returns k."""
    n = len(images) - 2
    k, o = ones(net), None
    for gradients in sample_gradients(net, images, labels):
        g = flat(gradients)
        if o is None:
            o = g
            continue
        t = torch.dot(o, g)
        k.sub_(o * (torch.dot(k, g) / (n + t)))
        o.sub_(o * (t / (n + t)))
    return unflat(net, k)


def woodbury_explicit(net, images, labels, _, damping=1e-3):
    """H^-1 v for v = 1 and H = damping I + (1/m) sum g g^T, from all gradients held in memory, [m, p]: Woodbury's
    identity, the [m, m] system in float64."""
    v = ones(net)
    m = len(images)
    gradients = torch.empty(m, len(v), dtype=v.dtype)
    for row, found in zip(gradients, sample_gradients(net, images, labels)):
        torch.cat([g.reshape(-1) for g in found], out=row)
    gram = (gradients @ gradients.T).double()
    gram.diagonal().add_(damping * m)
    weights = torch.cholesky_solve((gradients @ v).double()[:, None], torch.linalg.cholesky(gram))[:, 0]
    return unflat(net, (v - weights.to(v.dtype) @ gradients) / damping)

