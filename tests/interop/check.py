"""Opens in PyTorch, torchvision and peft what `cargo run --release --example interop -- FOLDER` wrote.

    pip install -r tests/interop/requirements.txt
    python tests/interop/check.py FOLDER

Compares logits: the same network must give the same answers on both sides, to 1e-4 of the largest. The adapters are
then saved by peft and the folder is checked to hold the same tensors. `--without-peft` leaves the adapters out.
"""

import argparse
import pathlib
import tempfile

import safetensors.torch
import torch
import torchvision

TOLERANCE = 1e-4


def close(what, got, expected):
    scale = expected.abs().max().item()
    off = (got - expected).abs().max().item() / scale
    print(f"{what}: off by {off:.1e} of the largest logit {scale:.2f}")
    if not off <= TOLERANCE:
        raise SystemExit(f"{what}: more than {TOLERANCE:.0e}")


class Normalized(torch.nn.Module):
    """The scaling of pixels that is part of our networks and not of torchvision's."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network, self.mean, self.std = network, mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def forward(self, x):
        return self.network((x - self.mean) / self.std)


def network(state):
    classes = state["fc.weight"].shape[0]
    net = torchvision.models.resnet18(weights=None, num_classes=classes)
    own = {name: value for name, value in state.items() if not name.startswith("normalize.")}
    wrong = net.load_state_dict(own, strict=False)
    missing = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or wrong.unexpected_keys:
        raise SystemExit(f"missing {missing}, unexpected {wrong.unexpected_keys}")
    return net.eval()


def adapters(folder, state, io):
    import peft

    constants = state["normalize.mean"], state["normalize.std"]
    net = peft.PeftModel.from_pretrained(network(state), folder / "adapter").eval()
    with torch.no_grad():
        close("peft, branches", Normalized(net, *constants)(io["x"]), io["logits_lora"])
        merged = net.merge_and_unload()
        close("peft, merged", Normalized(merged, *constants)(io["x"]), io["logits_lora"])
    ours = safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")
    again = peft.PeftModel.from_pretrained(network(state), folder / "adapter")
    with tempfile.TemporaryDirectory() as place:
        again.save_pretrained(place)
        theirs = safetensors.torch.load_file(pathlib.Path(place) / "adapter_model.safetensors")
    if ours.keys() != theirs.keys():
        raise SystemExit(f"names that only one side has: {sorted(ours.keys() ^ theirs.keys())}")
    if not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise SystemExit("peft saves other values than it read")
    print(f"peft saves the same {len(ours)} tensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--without-peft", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder
    io = safetensors.torch.load_file(folder / "io.safetensors")
    pth = torch.load(folder / "model.pth", weights_only=True)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    if pth.keys() != state.keys() or not all(torch.equal(pth[name], state[name]) for name in state):
        raise SystemExit("model.pth and model.safetensors differ")
    constants = state["normalize.mean"], state["normalize.std"]
    with torch.no_grad():
        close("torchvision", Normalized(network(pth), *constants)(io["x"]), io["logits"])
    if not arguments.without_peft:
        adapters(folder, state, io)


if __name__ == "__main__":
    main()
