"""The tables of compare.py, and the page that they go into."""

import os
import sys
import tempfile

import flops
from registry import PEERS

BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"

# Ours: (cotangent columns of ten classes, the peers whose fastest it is held against).
EXACT = ("exact-loop", "backpack-exact")
EMPIRICAL = ("empirical-loop", "empirical-vmap", "backpack-empirical")
DIAGONALS = {
    "gradient": (1, ("gradient",)),
    "empirical": (1, EMPIRICAL),
    # A label drawn for each picture costs the loop what the label of the data does.
    "sign": (1, ("backpack-mc", "empirical-loop")),
    "hybrid": (2, EXACT),
    "exact": (9, EXACT),
    "group-mean": (10, ("group-mean-loop",)),
    # A caller's own forward pass with marked layers: forward again for each column, by Burn's automatic differentiation.
    "marked-empirical": (1, EMPIRICAL),
    "marked-exact": (9, EXACT),
}


def megabytes(count):
    return "–" if count is None else f"{count / 1e6:,.0f}"


def figure(value):
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def rows(header, lines, words=1):
    """A Markdown table; the first `words` columns to the left, the others to the right."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *lines])


class Results:
    """What compare.py measured, by name."""

    def __init__(self, results):
        self.all = results
        self.settings = results["settings"]
        self.gemm = max(rate for pair in results["gemm"] for rate in pair.values())

    def ours(self, bench, width, name, n):
        return self.all["ours"][f"{bench}/resnet18-w{width}/{name}/{n}"]

    def peers(self, names, width, n):
        """Those of `names` that ran, the fastest first."""
        found = [p for p in self.all["peers"] if (p["peer"], p["width"]) in {(name, width) for name in names}]
        ran = [p for p in found if p["samples"] == n and "error" not in p]
        return sorted(ran, key=lambda p: p["median_seconds"])

    def share(self, rate, operations):
        return f"{100 * rate * operations / self.gemm:.0f} %"


def machine(r):
    about, settings = r.all["machine"], r.settings
    torch = next((p["torch"] for p in r.all["peers"] if "torch" in p), "")
    gemm = "; ".join(
        f"{when} {pair['ours'] / 1e9:.0f} (flex) and {pair['torch'] / 1e9:.0f} (PyTorch)"
        for when, pair in zip(("before", "after"), r.all["gemm"])
    )
    before, after = r.all["load"]
    return (
        f"{about['cpu']}, {about['cores']} cores, {settings['threads']} threads on both sides; {about['system']}; "
        f"{about['rustc']}, profile `{r.all['profile']}`; PyTorch {torch}. Load of the machine {before:.1f} at the "
        f"start, {after:.1f} at the end. A 2048×2048 matrix product, GFLOP/s: {gemm}; shares are of the largest. "
        f"Medians; ours over ten samples or more, the peers over {settings['repeats']} run(s)."
    )


def diagonals(r, width):
    n = r.settings["samples"]
    lines = []
    for name, (columns, peers) in DIAGONALS.items():
        ours, operations = r.ours("fisher", width, name, n), flops.sweep(width, columns)
        line = [name, f"{operations / 1e9:.3g}", figure(ours["rate"]), r.share(ours["rate"], operations)]
        line.append(megabytes(ours["peak_bytes"] - r.all["fisher_base_bytes"]))
        ran = r.peers(peers, width, n)
        if ran:
            peer, rate = ran[0], ran[0]["pictures_per_second"]
            line += [f"`{peer['peer']}`", figure(rate), megabytes(peer["peak_bytes"] - peer["before_bytes"])]
            line.append(f"**{figure(ours['rate'] / rate)}**")
        else:
            line += ["none ran", "–", "–", "–"]
        lines.append(line)
    header = ["diagonal", "GFLOP a picture", "ours, pictures/s", "of the product's rate", "ours, MB"]
    return rows([*header, "fastest peer", "pictures/s", "MB", "ours / peer"], lines)


def products(r, width):
    lines = []

    def line(what, bench, m, peer):
        ours = r.ours("influence", width, bench, m)
        cells = [what, str(m), figure(ours["seconds"])]
        cells.append(megabytes(ours["peak_bytes"] - r.all["influence_base_bytes"]))
        ran = r.peers([peer], width, m)
        if ran:
            seconds = ran[0]["median_seconds"]
            cells += [figure(seconds), megabytes(ran[0]["peak_bytes"] - ran[0]["before_bytes"])]
            cells.append(f"**{figure(seconds / ours['seconds'])}**")
        else:
            cells += ["did not run", "–", "–"]
        lines.append(cells)

    for m in r.settings["inverse"]:
        line("inverse Fisher product", "woodbury", m, "woodbury-explicit")
    compat = [key for key in r.all["ours"] if key.startswith(f"influence/resnet18-w{width}/compat/")]
    line("published recursion", "compat", int(compat[0].rsplit("/", 1)[1]), "woodfisher-loop")
    header = ["product", "samples", "ours, s", "ours, MB", "peer, s", "peer, MB", "peer / ours"]
    return rows(header, lines)


def peers(r, width):
    lines = []
    for p in r.all["peers"]:
        if p["width"] != width:
            continue
        cells = [f"`{p['peer']}`", PEERS[p["peer"]].computes, str(p["samples"])]
        if "error" in p:
            cells += ["–", "–", p["error"].replace("|", "/")]
        else:
            held = p["peak_bytes"] - p["before_bytes"]
            cells += [str(p["batch"] or "–"), figure(p["pictures_per_second"]), megabytes(held)]
        lines.append(cells)
    return rows(["peer", "computes", "pictures", "batch", "pictures/s", "MB"], lines, words=2)


def render(results):
    """All tables, as Markdown."""
    r = Results(results)
    passes = ", ".join(f"{flops.forward(width) / 1e9:.3g} at width {width}" for width in r.settings["widths"])
    parts = [
        machine(r),
        f"GFLOP a picture are those of the plain algorithm: (1 + 2c) forward passes ({passes}) for c cotangent "
        "columns, less what the first layer saves. MB are what the peak of a process's resident memory rises by over "
        "one that loaded the same program, network and pictures; ours has a budget of 1 GiB for diagonals. "
        "`gradient` of ours is a weighted sum of per-sample gradients.",
    ]
    for width in r.settings["widths"]:
        parts += [f"### ResNet-18, width {width}, {r.settings['samples']} pictures", diagonals(r, width)]
        parts += [products(r, width), "All peers:", peers(r, width)]
    return "\n\n".join(parts)


def split(page):
    """The text before and after what lies between the markers of `page`, markers not included."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"{page}: expected the markers {BEGIN} and {END}, once each and in this order")
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def write(page, text):
    """Puts `text` between the markers, whole or not at all."""
    before, after = split(page)
    handle, name = tempfile.mkstemp(dir=page.parent, prefix=page.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
        os.chmod(name, page.stat().st_mode & 0o777)
        os.replace(name, page)
    except BaseException:
        os.unlink(name)
        raise
