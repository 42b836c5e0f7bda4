#!/usr/bin/env python3
"""What each lever is worth: the same short training with one thing changed, under several seeds.

Needs Python 3.9 and a built vitrine; README.md beside this file says the rest.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Lever(NamedTuple):
    name: str
    settings: str


TAUGHT = "distillation.teacher=cifar10-cnn distillation.temperature=1.0 distillation.weight=0.9"

# Over the recipe cifar10-vit: what it has, taken away; then what it has not, added.
VIT = [
    Lever("the recipe", ""),
    Lever("AdamW in place of Muon", "optimizer.kind=adamw optimizer.lr=1e-3"),
    Lever("AdamW, twice the rate", "optimizer.kind=adamw"),
    Lever("Xavier in place of mimetic initialisation", "model.init=xavier"),
    Lever("linear stem", "model.stem=linear model.stem_depth=0"),
    Lever("no layer of the stem at full size", "model.stem_depth=0"),
    Lever("no CutMix", "augment.cutmix=0.0"),
    Lever("CutMix to the end", "curriculum.mix_until=1.0"),
    Lever("mixup in place of CutMix", "augment.cutmix=0.0 augment.mixup=0.8"),
    Lever("no label smoothing", "train.label_smoothing=0.0"),
    Lever("learned positions", "model.position=learned"),
    Lever("rotary positions", "model.position=rope-2d"),
    Lever("class token in place of the mean", "model.pooling=class-token"),
    Lever("four registers", "model.registers=4"),
    Lever("QK-norm", "model.qk_norm=true"),
    Lever("layer scale", "model.layer_scale=0.1"),
    Lever("drop path", "model.drop_path=0.1"),
    Lever("TrivialAugment", "augment.policy=trivialaugment"),
    Lever("random erasing", "augment.erasing=0.25"),
    Lever("alternating flip", "augment.flip=alternating"),
    Lever("average of the weights", "train.ema_epochs=0.5"),
    Lever("pictures that grow from half their side", "curriculum.start_size=16"),
    Lever("half of the patches dropped at first", "curriculum.token_drop=0.5"),
    Lever("a CNN's answers", TAUGHT),
    Lever("a CNN's answers, and its feature map at first", f"{TAUGHT} distillation.guidance=1.0"),
]

# Over the recipe cifar10-cnn.
CNN = [
    Lever("the recipe", ""),
    Lever("first layer learned, not whitened", "model.whiten=false"),
    Lever("random flip", "augment.flip=random"),
    Lever("no CutMix", "augment.cutmix=0.0"),
    Lever("no label smoothing", "train.label_smoothing=0.0"),
    Lever("no average of the weights", "train.ema=0.0"),
    Lever("no residual", "model.residual=false"),
    Lever("pictures that grow from half their side", "curriculum.start_size=16"),
    Lever("Muon in place of SGD", "optimizer.kind=muon optimizer.lr=2e-2 optimizer.weight_decay=0.05"),
]

FAMILIES = {"vit": ("cifar10-vit", VIT), "cnn": ("cifar10-cnn", CNN)}


class Figures(NamedTuple):
    """What the finished runs of one lever say, one entry a seed."""

    top1: list
    seconds: list


def main():
    args = parse()
    recipe, levers = FAMILIES[args.family]
    levers = [lever for number, lever in enumerate(levers) if args.only is None or number in args.only]
    check(recipe, levers, args)
    failed = False
    # By seeds first: whoever stops early has every lever once.
    for seed in range(args.seeds):
        for lever in levers:
            failed |= not train(recipe, lever, seed, args)
    print(table(levers, args))
    if failed:
        sys.exit(1)


def parse():
    def positions(text):
        return {int(number) for number in text.split(",")}

    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="training pictures, without a test split")
    add("--family", choices=FAMILIES, default="vit", help="whose levers (default: vit)")
    add("--epochs", type=int, default=4, metavar="N", help="of each training (default: 4)")
    add("--seeds", type=int, default=3, metavar="N", help="trainings of each lever (default: 3)")
    add("--only", type=positions, metavar="0,3", help="some of the levers, counted from 0 in this file")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="over the recipe, in every training")
    add("--out", type=Path, default=Path("runs/levers"), metavar="FOLDER", help="runs; what is finished there stays (default: runs/levers)")
    add("--vitrine", default="vitrine", metavar="FILE", help="the program (default: vitrine)")
    add("--device", default="cpu", metavar="NAME", help="default: cpu")
    args = parser.parse_args()
    if min(args.seeds, args.epochs) < 1:
        parser.error("--seeds and --epochs: expected 1 or more")
    if shutil.which(args.vitrine) is None:
        parser.error(f"--vitrine {args.vitrine}: no such program; cargo build --release makes target/release/vitrine")
    last = len(FAMILIES[args.family][1]) - 1
    if args.only and not args.only <= set(range(last + 1)):
        parser.error(f"--only: found {max(args.only)}, expected 0 to {last}")
    return args


def check(recipe, levers, args):
    """Refuses data with a test split, and a folder that holds trainings of another kind."""
    said = subprocess.run([args.vitrine, "data", "info", args.data, "--json"], capture_output=True, text=True)
    if said.returncode:
        sys.exit(said.stderr.strip())
    if any(count["split"] == "test" for count in json.loads(said.stdout)["counts"]):
        sys.exit(f"{args.data} has a test split, which every training would open; name its training pictures alone")
    version = subprocess.run([args.vitrine, "--version"], capture_output=True, text=True, check=True).stdout
    for lever in levers:
        asked = [version.strip(), args.device, args.data, recipe, settings(lever, args)]
        marker = folder(lever, args) / "asked.json"
        if not marker.exists():
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps(asked))
        elif json.loads(marker.read_text()) != asked:
            sys.exit(f"{marker.parent} holds trainings of other settings; name another folder with --out")


def settings(lever, args):
    # The recipe warms up over epochs, which are many in its own training.
    short = [f"train.epochs={args.epochs}", f"schedule.warmup_epochs={args.epochs / 10}"]
    return [*short, *args.set, *lever.settings.split()]


def folder(lever, args):
    name = "".join(letter if letter.isalnum() else "-" for letter in lever.name.lower())
    return args.out / args.family / name


def train(recipe, lever, seed, args):
    """Whether there is a finished run now."""
    run = folder(lever, args) / str(seed)
    if said(run) is None:
        # Short enough to begin anew.
        shutil.rmtree(run, ignore_errors=True)
        command = [args.vitrine, "train", "--device", args.device, "--recipe", recipe, "--data", args.data]
        command += ["--test-fraction", "0", "--seed", str(seed), "--out", str(run)]
        command += [word for setting in settings(lever, args) for word in ("--set", setting)]
        done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        if done.returncode:
            print(f"{run}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}", file=sys.stderr)
            return False
    print(f"{run}: {top1(run):.1f} %", file=sys.stderr)
    return True


def said(run):
    """What a finished run says of itself; None where it is not finished."""
    try:
        said = json.loads((run / "run.json").read_text())
    except FileNotFoundError:
        return None
    return said if said.get("ended") else None


def top1(run):
    return 100 * json.loads((run / "metrics.json").read_text())["val"]["top1"]


def table(levers, args):
    found = {}
    for lever in levers:
        runs = [folder(lever, args) / str(seed) for seed in range(args.seeds)]
        runs = [run for run in runs if said(run)]
        if runs:
            found[lever] = Figures([top1(run) for run in runs], [said(run)["training_s"] for run in runs])
    lines = ["| lever | settings | val top-1 | seeds | seconds |", "| --- | --- | ---: | ---: | ---: |"]
    for lever in sorted(found, key=lambda lever: -statistics.mean(found[lever].top1)):
        figures = found[lever]
        spread = f" ± {statistics.stdev(figures.top1):.1f}" if len(figures.top1) > 1 else ""
        name = lever.name if lever.settings else f"**{lever.name}**"
        keys = " ".join(f"`{setting}`" for setting in lever.settings.split()) or "–"
        lines.append(
            f"| {name} | {keys} | {statistics.mean(figures.top1):.1f}{spread} % "
            f"| {len(figures.top1)} | {statistics.mean(figures.seconds):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
