"""Opens in PyTorch, torchvision, transformers, peft and timm what the examples `interop` and `interop_vit` wrote, or
`unlearn export` in the same layout (`.ci/interop` makes both).

    cargo run --release --example interop -- FOLDER
    cargo run --release --example interop_vit -- OTHER
    pip install -r tests/interop/requirements.txt
    python tests/interop/check.py FOLDER OTHER

Compares logits: the same network must give the same answers on both sides, to 1e-4 of the largest. What transformers and
peft then save must hold the same tensors. `--without-peft` leaves the adapters out.
"""

import argparse
import os
import pathlib
import tempfile

# Everything is in the folders; nothing is to be asked for elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"

import safetensors.torch
import torch
import torchvision

TOLERANCE = 1e-4
ADAPTER = "adapter_model.safetensors"
MODEL = "model.safetensors"


def close(what, got, expected):
    scale = expected.abs().max().item()
    off = (got - expected).abs().max().item() / scale
    print(f"{what}: off by {off:.1e} of the largest logit {scale:.2f}")
    if not off <= TOLERANCE:
        raise SystemExit(f"{what}: more than {TOLERANCE:.0e}")


def same(what, ours, theirs):
    """Two files with the same tensors."""
    ours, theirs = safetensors.torch.load_file(ours), safetensors.torch.load_file(theirs)
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{what}: names that only one side has: {sorted(ours.keys() ^ theirs.keys())}")
    if not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise SystemExit(f"{what} saves other values than it read")
    print(f"{what} saves the same {len(ours)} tensors")


class Normalized(torch.nn.Module):
    """The scaling of pixels that is part of our networks and not of the others'."""

    def __init__(self, network, mean, std):
        super().__init__()
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        self.network, self.mean, self.std = network, mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def forward(self, x):
        out = self.network((x - self.mean) / self.std)
        return getattr(out, "logits", out)


def by_command(folder):
    """Whether `.ci/interop` made it with `unlearn`: then nothing of it may be missing."""
    return folder.name.endswith("-command")


def adapters(folder, network, constants, io):
    """peft opens the adapters on `network()`, a new one each time."""
    import peft

    net = peft.PeftModel.from_pretrained(network(), folder / "adapter").eval()
    with torch.no_grad():
        # What is compared depends on the branches, and not only on modules trained in full beside them.
        without = peft.PeftModel.from_pretrained(network(), folder / "adapter").eval()
        for name, factor in without.named_parameters():
            if "lora_B" in name:
                factor.zero_()
        off = (Normalized(without, *constants)(io["x"]) - io["logits_lora"]).abs().max().item()
        scale = io["logits_lora"].abs().max().item()
        print(f"peft, branches left out: off by {off / scale:.1e}")
        if not off > 10 * TOLERANCE * scale:
            raise SystemExit("the adapters change too little for a comparison to show anything")
        close("peft, branches", Normalized(net, *constants)(io["x"]), io["logits_lora"])
        merged = net.merge_and_unload()
        close("peft, merged", Normalized(merged, *constants)(io["x"]), io["logits_lora"])
    again = peft.PeftModel.from_pretrained(network(), folder / "adapter")
    with tempfile.TemporaryDirectory() as place:
        again.save_pretrained(place)
        same("peft", folder / "adapter" / ADAPTER, pathlib.Path(place) / ADAPTER)


def resnet(state):
    classes = state["fc.weight"].shape[0]
    net = torchvision.models.resnet18(weights=None, num_classes=classes)
    own = {name: value for name, value in state.items() if not name.startswith("normalize.")}
    wrong = net.load_state_dict(own, strict=False)
    missing = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or wrong.unexpected_keys:
        raise SystemExit(f"missing {missing}, unexpected {wrong.unexpected_keys}")
    return net.eval()


def residual(folder, with_peft):
    io = safetensors.torch.load_file(folder / "io.safetensors")
    pth = torch.load(folder / "model.pth", weights_only=True)
    state = safetensors.torch.load_file(folder / MODEL)
    if pth.keys() != state.keys() or not all(torch.equal(pth[name], state[name]) for name in state):
        raise SystemExit("model.pth and model.safetensors differ")
    constants = state["normalize.mean"], state["normalize.std"]
    with torch.no_grad():
        close("torchvision", Normalized(resnet(pth), *constants)(io["x"]), io["logits"])
    if (merged := folder / "merged.pth").exists() or by_command(folder):
        with torch.no_grad():
            merged = Normalized(resnet(torch.load(merged, weights_only=True)), *constants)
            close("torchvision, adapters merged here", merged(io["x"]), io["logits_lora"])
    if with_peft:
        adapters(folder, lambda: resnet(state), constants, io)


def vit(folder):
    import transformers

    net, told = transformers.ViTForImageClassification.from_pretrained(folder, output_loading_info=True)
    if any(told.values()):
        raise SystemExit(f"transformers opened {folder.name} with {told}")
    return net.eval()


def timm_vit(file, like):
    """timm's network of the shape that a configuration of transformers says."""
    import functools

    import timm

    norm = functools.partial(torch.nn.LayerNorm, eps=like.layer_norm_eps)
    shape = {
        "img_size": like.image_size,
        "patch_size": like.patch_size,
        "embed_dim": like.hidden_size,
        "depth": like.num_hidden_layers,
        "num_heads": like.num_attention_heads,
        "mlp_ratio": like.intermediate_size / like.hidden_size,
    }
    net = timm.models.vision_transformer.VisionTransformer(num_classes=like.num_labels, norm_layer=norm, **shape)
    state = safetensors.torch.load_file(file)
    net.load_state_dict({name: value for name, value in state.items() if not name.startswith("normalize.")})
    return net.eval()


def transformer(folder, with_peft):
    import transformers

    io = safetensors.torch.load_file(folder / "io.safetensors")
    processor = transformers.ViTImageProcessor.from_pretrained(folder / "folder")
    constants = processor.image_mean, processor.image_std
    with torch.no_grad():
        close("transformers", Normalized(vit(folder / "folder"), *constants)(io["x"]), io["logits"])
        merged = Normalized(vit(folder / "merged"), *constants)
        close("transformers, adapters merged here", merged(io["x"]), io["logits_lora"])
        if (file := folder / "timm.safetensors").exists() or by_command(folder):
            timm = timm_vit(file, vit(folder / "folder").config)
            close("timm", Normalized(timm, *constants)(io["x"]), io["logits"])
    with tempfile.TemporaryDirectory() as place:
        vit(folder / "folder").save_pretrained(place)
        same("transformers", folder / "folder" / MODEL, pathlib.Path(place) / MODEL)
    if with_peft:
        adapters(folder, lambda: vit(folder / "folder"), constants, io)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=pathlib.Path, nargs="+")
    parser.add_argument("--without-peft", action="store_true")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        check = transformer if (folder / "folder").is_dir() else residual
        check(folder, not arguments.without_peft)


if __name__ == "__main__":
    main()
