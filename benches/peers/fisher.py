"""How many pictures a second do PyTorch, BackPACK and curvlinops take in on the way to a Fisher diagonal?

The peers of benches/fisher.rs and benches/influence.rs: ResNet-18 on 32x32 pictures of noise, evaluation mode,
float32, on the CPU unless `--device cuda` is given. Every peer runs in a process of its own, so that its peak memory
is its own; a first run over a few pictures is not counted. Prints one JSON line a peer: the median over `--repeats`
runs, all of them, the peak of resident memory, and what of that was there before (interpreter, libraries, network and
pictures).

    python benches/peers/fisher.py [--width 64] [--samples 64] [--batch 64] [--repeats 5] [--threads 2]
                                   [--only exact-loop backpack-exact ...] [--device cuda [--tf32]]
    python benches/peers/fisher.py --check        # does every peer compute what it says? On a tiny network
    python benches/peers/fisher.py --list         # the names for --only, with what each computes

`gemm` is the rate of a 2048 by 2048 matrix product, in operations a second. BackPACK and torch.func hold
intermediate results for a whole batch: choose the `--batch` that suits them best. `woodbury-explicit` holds the
gradients of all samples, 45 MB each at width 64.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from registry import PEERS

# Nothing large is imported here: a child's peak memory must not begin with its parent's.

GEMM = 2048


def peak_bytes():
    """The most resident memory of this process so far."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except FileNotFoundError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def timed(run, repeats, device):
    """Seconds of every run."""
    import torch

    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


def measure(name, arguments):
    """One peer, in this process."""
    import warnings

    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    device = arguments.device
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    result = {"peer": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "device": device}
    if name == "gemm":
        a, b = torch.rand(2, GEMM, GEMM, device=device).unbind()
        a @ b
        seconds = timed(lambda: a @ b, max(arguments.repeats, 10), device)
        result["operations_per_second"] = 2 * GEMM**3 / statistics.median(seconds)
    else:
        import curvature
        from network import noise, resnet18

        peer = PEERS[name]
        function = getattr(curvature, peer.function)
        net = resnet18(arguments.width).eval().to(device)
        images, labels = (given.to(device) for given in noise(arguments.samples))
        batch = min(arguments.batch, arguments.samples)
        before = peak_bytes()
        # A batch for what works in batches, and a few pictures for what does not.
        some = batch if peer.batched else min(4, arguments.samples)
        function(net, images[:some], labels[:some], batch)
        seconds = timed(lambda: function(net, images, labels, batch), arguments.repeats, device)
        result |= {"width": arguments.width, "samples": arguments.samples, "computes": peer.computes}
        result["batch"] = batch if peer.batched else None
        result["pictures_per_second"] = arguments.samples / statistics.median(seconds)
        result |= {"peak_bytes": peak_bytes(), "before_bytes": before}
        if device == "cuda":
            result["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    result["median_seconds"] = statistics.median(seconds)
    result["seconds"] = seconds
    return result


def apart(name, given):
    """One peer in a process of its own; a record of the failure where it fails."""
    command = [sys.executable, __file__, *given, "--here", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    reason = "killed, most likely for want of memory" if done.returncode == -9 else last
    return {"peer": name, "error": reason}


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--samples", type=int, default=64, help="pictures a run")
    parser.add_argument("--batch", type=int, default=64, help="pictures at a time, for peers that can")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tf32", action="store_true", help="on cuda: products of 10-bit mantissas")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="these peers, instead of all")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--here", metavar="PEER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in ("width", "samples", "batch", "repeats", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name}: expected at least 1")
    return parser, arguments


def main():
    parser, arguments = parsed()
    if arguments.here:
        print(json.dumps(measure(arguments.here, arguments)))
        return 0
    if arguments.check:
        import warnings

        warnings.filterwarnings("ignore")
        import check

        return 0 if check.main() else 1
    names = ["gemm", *PEERS]
    if arguments.list:
        for name in names:
            print(f"{name:20} {PEERS[name].computes if name in PEERS else 'matrix product'}")
        return 0
    unknown = set(arguments.only or []) - set(names)
    if unknown:
        parser.error(f"--only: no such peer: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    given = [
        f"--{name}={getattr(arguments, name)}" for name in ("width", "samples", "batch", "repeats", "threads", "device")
    ] + ["--tf32"] * arguments.tf32
    failed = False
    for name in arguments.only or names:
        result = apart(name, given)
        failed |= "error" in result
        print(json.dumps(result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
