#!/usr/bin/env python3
"""How step time and memory grow: draws them against batch, tokens, width, threads and pictures as one SVG.

    benches/growth.py BENCH VITRINE growth.svg --json growth.json

BENCH is the built bench `workloads` (`cargo bench --bench workloads --no-run` names it), VITRINE the program. Every
point is the best of three processes (`--turns`), for a process alone has a peak memory of its own: some ten minutes on
two cores. The pictures are 256×256 PNGs, made here; their epochs are the second and later ones of a small ViT, with a
cache that holds all and with one that holds a quarter of the largest set. Needs Python 3.9 and nothing else.
"""

import argparse
import csv
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

SIDE = 256
# Pictures; more are copies, for what takes a second to read takes minutes to make here.
DIFFERENT = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ["bench", "vitrine", "svg"]:
        parser.add_argument(name, type=Path)
    parser.add_argument("--json", type=Path, help="write every point here")
    parser.add_argument("--turns", type=int, default=3, help="processes for each point (default: 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()

    def step(value, *flags, threads=args.threads):
        command = [args.bench, "w1-train", "--steps", 4, "--warmup", 2, "--threads", threads, *flags]
        runs = [json.loads(output(command)) for _ in range(args.turns)]
        return note(command, [value, min(run["ms_per_step"] for run in runs), min(run["peak_rss_mb"] for run in runs)])

    steps = [
        ("batch (64 tokens, width 192)", [step(n, "--batch", n) for n in [16, 32, 64, 128, 256]]),
        (
            "tokens (batch 16, width 192)",
            [step((n // 4) ** 2, "--batch", 16, "--image-size", n) for n in [16, 32, 48, 64, 96, 128]],
        ),
        (
            "width (batch 64, 64 tokens)",
            [step(n, "--batch", 64, "--width", n) for n in [64, 128, 192, 256, 384, 512]],
        ),
        (
            "threads (batch 128)",
            [step(n, "--batch", 128, threads=n) for n in range(1, args.threads + 1)],
        ),
    ]
    epochs = pictures(args)
    if args.json:
        args.json.write_text(json.dumps({"steps": dict(steps), "epochs": epochs}, indent=1) + "\n")
    args.svg.write_text(drawn(steps, epochs))


def note(command, point):
    print(*command[1:], *point, file=sys.stderr, flush=True)
    return point


def output(command):
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{command[0]} failed: {run.stderr[-500:]}")
    return run.stdout.splitlines()[-1]


def pictures(args):
    """Seconds of an epoch and peak MiB against the number of pictures, by the kind of cache."""
    counts = [500, 1000, 2000, 4000]
    found = {}
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for i in range(counts[-1]):
            file = place / f"data/class{i % 4}/{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            if i < DIFFERENT:
                file.write_bytes(picture(i))
            else:
                shutil.copy(place / f"data/class{i % DIFFERENT % 4}/{i % DIFFERENT}.png", file)
        # 64 by 64 pixels of three bytes are kept of each: twice the input of 32 for random crops.
        quarter = counts[-1] * 64 * 64 * 3 // 4 >> 20
        for name, megabytes in [("all in the cache", 1024), (f"a cache of {quarter} MiB", quarter)]:
            found[name] = [epoch(args, place, n, n / counts[-1], megabytes) for n in counts]
    return found


def epoch(args, place, count, fraction, megabytes):
    best = None
    for turn in range(args.turns):
        run = place / f"run-{count}-{megabytes}-{turn}"
        command = [args.vitrine, "--threads", args.threads, "train", "--data", place / "data", "--out", run]
        command += ["--model", "vit-micro", "--image-size", 32, "--epochs", 3, "--device", "cpu"]
        command += ["--precision", "f32", "--cache-mb", megabytes, "--set", f"data.fraction={fraction}"]
        command += ["--set", "augment.random_resized_crop=[0.5, 1.0]", "--set", "augment.crop_padding=0"]
        command += ["--test-fraction", 0, "--val-fraction", 0.02]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        rows = list(csv.DictReader((run / "results.csv").open()))
        times = [float(row["time"]) for row in rows]
        later = (times[-1] - times[0]) / (len(times) - 1)
        best = min(best or later, later)
    return note(command, [count, best])


def picture(seed):
    """A PNG of some smooth colours and some grain."""
    rng = random.Random(seed)
    a, b, c = (rng.randrange(1, 5) for _ in range(3))
    grain = bytes(rng.randrange(24) for _ in range(3 * SIDE))
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)
        row = bytes((x * a + y * b * (1 + x % 3) + c * 40) // 8 * 8 & 0xE0 for x in range(3 * SIDE))
        shift = y * 7 % len(grain)
        rows += bytes(p + g for p, g in zip(row, grain[shift:] + grain[:shift]))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows), 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


WIDTH, HEIGHT, LEFT, TOP = 300, 190, 62, 44


def drawn(steps, epochs):
    """Panels in rows of three: milliseconds (blue, left) and MiB (orange, right) against what grows."""
    panels = []
    for title, points in steps:
        x = [point[0] for point in points]
        panels.append(
            panel(title, x, [("ms a step", "#1f6fb4", [p[1] for p in points]), ("peak MiB", "#c8551b", [p[2] for p in points])])
        )
    series = [
        (name, colour, [point[1] for point in points])
        for (name, points), colour in zip(epochs.items(), ["#1f6fb4", "#c8551b"])
    ]
    x = [point[0] for point in next(iter(epochs.values()))]
    panels.append(panel("pictures of 256×256: seconds an epoch", x, series, shared=True))
    columns = 3
    rows = -(-len(panels) // columns)
    w, h = WIDTH + 2 * LEFT, HEIGHT + TOP + 52
    body = "".join(
        f'<g transform="translate({i % columns * w},{i // columns * h})">{p}</g>' for i, p in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * w}" height="{rows * h}" '
        f'viewBox="0 0 {columns * w} {rows * h}" font-family="sans-serif" font-size="12" fill="#222">'
        f'<rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def panel(title, x, series, shared=False):
    """One plot; the series have a scale each, from 0, or one between them."""
    highest = max(max(values) for _, _, values in series)
    right = LEFT + WIDTH
    bottom = TOP + HEIGHT
    at = [LEFT + WIDTH * value / max(x) for value in x]
    out = f'<text x="{LEFT + WIDTH / 2}" y="16" text-anchor="middle" font-weight="bold">{title}</text>'
    out += f'<path d="M{LEFT} {TOP}V{bottom}H{right}{"" if shared else f"V{TOP}"}" fill="none" stroke="#888"/>'
    near = -100
    for value, place in zip(x, at):
        out += f'<path d="M{place:.1f} {bottom}v4" stroke="#888"/>'
        if place - near > 30:
            out += f'<text x="{place:.1f}" y="{bottom + 17}" text-anchor="middle">{value}</text>'
            near = place
    for i, (name, colour, values) in enumerate(series):
        top = (highest if shared else max(values)) * 1.05
        y = [bottom - HEIGHT * value / top for value in values]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(at, y))
        out += f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        out += "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in zip(at, y))
        # The legend stands above the plot, clear of every line.
        out += f'<text x="{LEFT + i * WIDTH / 2}" y="{TOP - 10}" fill="{colour}">{name}</text>'
        if shared and i:
            continue
        edge, anchor, gap = (LEFT, "end", -6) if i == 0 else (right, "start", 6)
        for share in [0, 0.5, 1]:
            value = top * share
            text = f"{value:.0f}" if top >= 20 else f"{value:.1f}"
            place = bottom - HEIGHT * share
            out += f'<text x="{edge + gap}" y="{place + 4:.1f}" text-anchor="{anchor}" fill="{colour if not shared else "#222"}">{text}</text>'
    return out


if __name__ == "__main__":
    main()
