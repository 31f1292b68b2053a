#!/usr/bin/env python3
"""Runs the benches of the curvature engine and their PyTorch peers, one after the other, on this machine, and
writes the ratios into docs/benchmarks.md.

    python -m venv peers && peers/bin/pip install -r benches/peers/requirements.txt
    python3 benches/compare.py --python peers/bin/python              # measures and writes: an hour and more
    python3 benches/compare.py --python peers/bin/python --quick --print   # minutes: does it all run?
    python3 benches/compare.py --from target/comparison.json --print  # the tables of an earlier run again

Only the text between the two `comparison` markers of the page is replaced, in one step, and only when everything
ran; a peer that fails (for want of memory, say) is named in the table with its reason. Needs Python's standard
library, cargo, and with `--python` an interpreter that has the peers. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches" / "peers"))

import flops  # noqa: E402
import table  # noqa: E402
from registry import PEERS  # noqa: E402

BENCHES = ("gemm", "fisher", "influence")
# Samples of the published recursion with its constant of 1000.
RECURSION = 1002


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def machine():
    """What this runs on, as far as the system tells."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except FileNotFoundError:
        pass
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "rustc": rustc}


def available_bytes():
    """Memory that a new process could have, or None where the system does not tell."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def build(profile):
    """Builds the benches; bench name -> program."""
    chosen = [word for name in BENCHES for word in ("--bench", name)]
    command = ["cargo", "bench", "--locked", "--no-run", "--profile", profile, *chosen]
    done = subprocess.run([*command, "--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    built = [m for m in messages if m.get("reason") == "compiler-artifact" and "bench" in m["target"]["kind"]]
    programs = {m["target"]["name"]: m["executable"] for m in built if m.get("executable")}
    missing = set(BENCHES) - programs.keys()
    if missing:
        sys.exit(f"cargo named no program for {', '.join(sorted(missing))}")
    return programs


def run(command, environment):
    """Runs to the end; the peak of its resident memory in bytes."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: ended with {process.returncode}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Ours:
    """The criterion benches, with results in a folder of their own."""

    def __init__(self, programs, home, environment):
        self.programs, self.home = programs, home
        self.environment = environment | {"CRITERION_HOME": str(home)}

    def bench(self, name):
        """Runs all of `name`; id -> median seconds, elements, and both in elements a second."""
        began = time.time()
        run([self.programs[name], "--bench"], self.environment)
        found = {}
        for file in self.home.rglob("new/benchmark.json"):
            about = json.loads(file.read_text())
            if file.stat().st_mtime < began - 1 or about["full_id"].split("/")[0] != name:
                continue
            seconds = json.loads((file.parent / "estimates.json").read_text())["median"]["point_estimate"] / 1e9
            elements = about["throughput"]["Elements"]
            found[about["full_id"]] = {"seconds": seconds, "elements": elements, "rate": elements / seconds}
        if not found:
            sys.exit(f"the bench {name} left no results under {self.home}")
        return found

    def peak(self, name, id_):
        """The peak of memory of a process that does nothing but `id_`; of one that does nothing, for None."""
        only = ["--exact", id_] if id_ else ["--exact", "nothing has this name"]
        return run([self.programs[name], "--bench", "--profile-time", "1", *only], self.environment)


class Theirs:
    """The PyTorch peers."""

    def __init__(self, python, environment, settings):
        self.python, self.environment, self.settings = python, environment, settings

    def run(self, peers, **changes):
        """The records of `peers`, failures among them."""
        settings = {name: self.settings[name] for name in ("batch", "repeats", "threads")} | changes
        command = [self.python, ROOT / "benches/peers/fisher.py", *(f"--{k}={v}" for k, v in settings.items())]
        done = subprocess.run([*command, "--only", *peers], env=self.environment, stdout=subprocess.PIPE, text=True)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        if len(records) != len(peers):
            sys.exit(f"the peers said {len(records)} of {len(peers)} things and ended with {done.returncode}")
        for record in records:
            record |= {"width": changes.get("width"), "samples": changes.get("samples")}
        return records

    def explicit(self, width, m):
        """`woodbury-explicit`, unless its gradients alone would not fit."""
        needed, there = 4 * m * flops.parameters(width), available_bytes()
        if there is not None and needed > 0.8 * there:
            reason = f"not run: {needed / 1e9:.1f} GB of gradients, {there / 1e9:.1f} GB of memory free"
            return [{"peer": "woodbury-explicit", "width": width, "samples": m, "error": reason}]
        return self.run(["woodbury-explicit"], width=width, samples=m)


def measure(arguments, settings):
    """Everything, one after the other."""
    threads = str(settings["threads"])
    environment = os.environ | {name: threads for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment |= {
        "UNLEARN_BENCH_N": str(settings["samples"]),
        "UNLEARN_BENCH_M": ",".join(map(str, settings["inverse"])),
        "UNLEARN_BENCH_WIDTHS": ",".join(map(str, settings["widths"])),
        "UNLEARN_BENCH_SECONDS": str(settings["seconds"]),
    }
    metadata = ["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"]
    target = json.loads(subprocess.run(metadata, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)["target_directory"]
    say("building")
    ours = Ours(build(arguments.profile), pathlib.Path(target) / "comparison", environment)
    theirs = Theirs(arguments.python, environment, settings)
    results = {"machine": machine(), "settings": settings, "profile": arguments.profile, "load": [os.getloadavg()[0]]}
    if results["load"][0] > 0.5:
        say(f"the machine is busy (load {results['load'][0]:.1f}): the figures will be worth little")

    def rates():
        product, peer = ours.bench("gemm"), theirs.run(["gemm"])[0]
        return {"ours": next(iter(product.values()))["rate"], "torch": peer["operations_per_second"]}

    say("matrix products")
    results["gemm"] = [rates()]
    results["ours"], results["peers"] = {}, []
    inverse = {"woodfisher-loop", "woodbury-explicit"}
    for bench in ("fisher", "influence"):
        say(f"ours: {bench}")
        found = ours.bench(bench)
        say(f"ours: {bench}, memory")
        results[f"{bench}_base_bytes"] = ours.peak(bench, None)
        for id_ in found:
            found[id_]["peak_bytes"] = ours.peak(bench, id_)
        results["ours"] |= found
        for width in settings["widths"]:
            say(f"peers: {bench}, width {width}")
            if bench == "fisher":
                names = [name for name in PEERS if name not in inverse]
                results["peers"] += theirs.run(names, width=width, samples=settings["samples"])
            else:
                results["peers"] += theirs.run(["woodfisher-loop"], width=width, samples=RECURSION)
                for m in settings["inverse"]:
                    results["peers"] += theirs.explicit(width, m)
    say("matrix products again")
    results["gemm"].append(rates())
    results["load"].append(os.getloadavg()[0])
    kept = pathlib.Path(target) / "comparison.json"
    kept.write_text(json.dumps(results, indent=1))
    say(f"kept in {kept}")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--samples", type=int, default=64, help="pictures of a diagonal")
    parser.add_argument("--inverse", type=int, nargs="+", default=[64, 256, 1000], help="samples of an inverse")
    parser.add_argument("--batch", type=int, default=64, help="pictures at a time, for peers that can")
    parser.add_argument("--repeats", type=int, default=3, help="runs of every peer")
    parser.add_argument("--seconds", type=int, default=20, help="of measurement for every figure of ours")
    parser.add_argument("--profile", default="bench", help="cargo's profile for the benches")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--from", dest="from_", type=pathlib.Path, metavar="FILE", help="measure nothing, read FILE")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("--print", action="store_true", help="print the tables and write no page")
    arguments = parser.parse_args()
    names = ("threads", "widths", "samples", "inverse", "batch", "repeats", "seconds")
    settings = {name: getattr(arguments, name) for name in names}
    if arguments.quick:
        settings |= {"widths": [4], "samples": 8, "inverse": [3], "batch": 8, "repeats": 1, "seconds": 1}
    if arguments.quick and not arguments.print:
        parser.error("--quick measures nothing worth a page: give --print too")
    if not arguments.print:
        table.split(arguments.page)  # Before an hour of measurement, not after it.
    results = json.loads(arguments.from_.read_text()) if arguments.from_ else measure(arguments, settings)
    text = table.render(results)
    if arguments.print:
        print(text)
    else:
        table.write(arguments.page, text)
        say(f"written to {arguments.page}")


if __name__ == "__main__":
    main()
