#!/usr/bin/env python3
"""Photographs of 12 megapixels, in turns: `vitrine classify` against Pillow, which only decodes them (in draft mode, which
is the least that it can decode), and what a first epoch reads against Pillow decoding and resizing. Prints images a second.

    cargo build --release && cargo build --release --example load_pictures
    benches/peers/photographs.py FOLDER             # makes 24 photographs there if it is empty; needs Pillow and NumPy
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(folder):
    """Noise whose amplitude falls as its frequency grows, weaker in chroma, and edges: 1.4 to 2.1 MB each."""
    import numpy as np
    from PIL import Image

    width, height = 4000, 3000
    for seed in range(24):
        rng = np.random.default_rng(seed)
        values = np.full((height, width, 3), 128, np.float32)
        for cells, amplitude in [(4, 60), (10, 40), (30, 26), (90, 16), (250, 9), (700, 5), (1500, 2.5)]:
            shape = (max(2, cells * 3 // 4), cells)
            luma, chroma = rng.normal(size=shape), rng.normal(size=(*shape, 3)) * 0.4
            for channel in range(3):
                noise = Image.fromarray((luma + chroma[..., channel]).astype(np.float32))
                values[..., channel] += amplitude * np.asarray(noise.resize((width, height), Image.BICUBIC))
        y, x = np.ogrid[:height, :width]
        for _ in range(25):
            at, radius = rng.integers([0, 0], [width, height]), rng.integers(40, 600)
            values[(x - at[0]) ** 2 + (y - at[1]) ** 2 < radius**2] += rng.normal(size=3) * 50
        values += rng.normal(size=(height, width, 1)) * 2
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{seed:02}.jpg", quality=85 + seed % 6)


def pillow(files, size, threads, resizes):
    from PIL import Image

    def one(path):
        picture = Image.open(path)
        picture.draft("RGB", (size, size))
        picture = picture.convert("RGB")
        if resizes:
            left = (picture.width - picture.height) / 2
            box = (left, 0, left + picture.height, picture.height)
            picture.resize((size, size), Image.BILINEAR, box=box)

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(one, files))
        return time.perf_counter() - began


def run(command):
    """Seconds, the largest memory in MiB, and what was printed."""
    began = time.perf_counter()
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    return time.perf_counter() - began, usage.ru_maxrss / 1024, printed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, default=ROOT / "target/release", help="where vitrine was built")
    parser.add_argument("--count", type=int, default=500, help="pictures, by links to those of the folder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="a word in the name of what is measured")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not list(options.folder.glob("*.jpg")):
        make(options.folder)
    stored = sorted(options.folder.resolve().glob("*.jpg"))
    with tempfile.TemporaryDirectory(dir=options.folder.resolve().parent) as scratch:
        files = []
        for index in range(options.count):
            place = Path(scratch) / "all" / "ab"[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            os.link(stored[index % len(stored)], place / f"{index:05}.jpg")
            files.append(place / f"{index:05}.jpg")
        threads, target = options.threads, options.target
        few = files[: max(1, options.count // 10)]
        classify = [target / "vitrine", "classify", "--csv", "--threads", threads]
        load = [target / "examples/load_pictures", "--threads", threads, f"{scratch}/all"]
        memory = {}

        def ours(name, command):
            seconds, memory[name], printed = run(command)
            inner = re.search(r"in ([\d.]+) s", printed)
            return float(inner[1]) if inner else seconds

        measured = {
            "classify, 32 pixels": lambda: ours("classify", [*classify, *files]),
            "Pillow draft alone, 32": lambda: pillow(files, 32, threads, False),
            "first epoch, 224": lambda: ours("load 224", [*load, 224]),
            "first epoch, 224, random crops": lambda: ours("load 224 crops", [*load, 224, "crops"]),
            "Pillow draft and resize, 224": lambda: pillow(files, 224, threads, True),
        }
        measured = {name: work for name, work in measured.items() if options.only in name}
        paces = {name: [] for name in measured}
        for _ in range(options.turns):
            for name, work in measured.items():
                paces[name].append(options.count / work())
        for name, found in paces.items():
            print(f"{name:32} {statistics.median(found):7.1f} /s   ({min(found):.1f} to {max(found):.1f})")
        if "classify" in memory:
            memory[f"classify of {len(few)}"] = run([*classify, *few])[1]
        for name, mebibytes in memory.items():
            print(f"{name:32} {mebibytes:7.0f} MiB at most")


if __name__ == "__main__":
    main()
