"""The part of `make.py` that transformers and peft are asked for: a vision transformer, and adapters on both networks."""

import json

import peft
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification

VIT_TARGETS, RESNET_TARGETS = ["query", "value", "dense"], ["conv1", "conv2", "fc"]
# Adapters are compared on so many pictures.
FEW = 4


def vit(sizes):
    config = ViTConfig(
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["mlp"],
        image_size=sizes["image"],
        patch_size=sizes["patch"],
        num_labels=sizes["classes"],
        attn_implementation="eager",
    )
    return ViTForImageClassification(config).eval()


def randomize(model, rng):
    """No entry has a value that a fresh network would have: layer norms and biases are drawn too."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data.normal_(1.0, 0.25, generator=rng)
            module.bias.data.normal_(0.0, 0.15, generator=rng)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            inputs = module.weight[0].numel()
            module.weight.data.normal_(0.0, 1 / inputs**0.5, generator=rng)
            module.bias.data.normal_(0.0, 0.1, generator=rng)
    embeddings = model.vit.embeddings
    for parameter in (embeddings.cls_token, embeddings.position_embeddings):
        parameter.data.normal_(0.0, 0.5, generator=rng)


def adapted(network, lora, targets, rng=None, folder=None):
    """The network with adapters: those of `folder`, or new ones, of which no factor is zero."""
    if folder:
        return peft.PeftModel.from_pretrained(network, folder).eval()
    config = peft.LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], target_modules=targets)
    net = peft.get_peft_model(network, config).eval()
    for name, parameter in net.named_parameters():
        if ".lora_" in name:
            inputs = parameter[0].numel()
            parameter.data.normal_(0.0, 1 / inputs**0.5, generator=rng)
    return net


def save_adapters(net, folder):
    net.save_pretrained(folder)
    # About the model, for people.
    (folder / "README.md").unlink(missing_ok=True)


def logits(model, x):
    with torch.no_grad():
        out = model(x)
    return getattr(out, "logits", out)


def sums_of_squares(model, x, y):
    """Float64, one sample at a time: of the loss at the label, and of all classes by their probability."""
    model = vit_like(model).double()
    names = [name for name, _ in model.named_parameters()]
    parameters = [parameter for _, parameter in model.named_parameters()]
    empirical, exact = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for i in range(len(y)):
        log_p = F.log_softmax(model(x[i : i + 1].double()).logits[0], 0)
        for c in range(len(log_p)):
            gradients = torch.autograd.grad(-log_p[c], parameters, retain_graph=True)
            p = log_p[c].exp().item()
            for total, gradient in zip(exact, gradients):
                total += p * gradient.square()
            if c == y[i]:
                for total, gradient in zip(empirical, gradients):
                    total += gradient.square()
    out = {"y": y}
    for prefix, totals in (("empirical_sum", empirical), ("exact_sum", exact)):
        out |= {f"{prefix}.{name}": total.float() for name, total in zip(names, totals)}
    return out


def vit_like(model):
    copy = ViTForImageClassification(model.config)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def make(out, tensors, sizes, lora, resnet, resnet_x, seed, like):
    """Writes everything of the transformer and of adapters; takes weights and inputs from the folder `like`, if any.
    `resnet` makes the residual network, in evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    # peft draws its own first weights.
    torch.manual_seed(seed)
    if like:
        model = ViTForImageClassification.from_pretrained(like / "vit_hf", attn_implementation="eager").eval()
        x, y = load_file(like / "vit_io.safetensors")["x"], load_file(like / "vit_curvature.safetensors")["y"]
    else:
        model = vit(sizes)
        randomize(model, rng)
        side, samples = sizes["image"], sizes["samples"]
        x = torch.rand(samples, 3, side, side, generator=rng) * 2 - 1
        y = torch.randint(sizes["classes"], (samples,), generator=rng)
    model.save_pretrained(out / "vit_hf")
    tensors("vit_curvature.safetensors", sums_of_squares(model, x, y))
    plain = logits(model, x)
    few = load_file(like / "resnet_lora_io.safetensors")["x"] if like else resnet_x[:FEW]
    for name, network, targets, pictures in (
        ("vit", vit_like(model), VIT_TARGETS, x),
        ("resnet", resnet(), RESNET_TARGETS, few),
    ):
        folder = f"{name}_lora_peft"
        net = adapted(network, lora, targets, rng, like / folder if like else None)
        save_adapters(net, out / folder)
        io = {"x": pictures, "logits_lora": logits(net, pictures)}
        if name == "vit":
            io["logits"] = plain
        tensors(f"{name}_{'io' if name == 'vit' else 'lora_io'}.safetensors", io)


def sizes_of(folder):
    spec = json.loads((folder / "spec.json").read_text())
    return spec["vit"], spec["lora"]
