#!/usr/bin/env python3
"""Times the reference workloads in vitrine, PyTorch and ONNX Runtime by turns, one process each.

Needs Python 3.9 and, without --ours, cargo; README.md beside this file says the rest.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PACKAGES = ["torch", "torchvision", "timm", "pillow", "numpy", "onnx", "onnxruntime"]

# A process that takes longer hangs; on two cores the slowest, a first torch.compile, takes minutes.
LIMIT_S = 1800


class Workload(NamedTuple):
    name: str
    batch: int
    # Enough for some seconds on two cores.
    steps: int

    def __str__(self):
        return f"{self.name}, batch {self.batch}" if self.name == "w3-infer" else self.name


WORKLOADS = [
    Workload("w1-train", 128, 10),
    Workload("w1-infer", 128, 20),
    Workload("w2-train", 128, 5),
    Workload("w2-infer", 128, 10),
    Workload("w3-infer", 1, 100),
    Workload("w3-infer", 16, 20),
    Workload("ti-tune", 32, 3),
    Workload("s-tune", 32, 2),
    Workload("cold", 1, 1),
]


class Contender(NamedTuple):
    who: str
    precision: str

    def __str__(self):
        return f"{self.who} {self.precision}"


OURS, OURS_BF16, OURS_INT8 = (Contender("ours", precision) for precision in ("f32", "bf16", "int8"))
ONNX_INT8 = Contender("onnx", "int8")

# The order of a turn, which puts ours between its peers.
CONTENDERS = [
    Contender("eager", "f32"),
    OURS,
    Contender("compile", "f32"),
    Contender("onnx", "f32"),
    Contender("eager", "bf16"),
    OURS_BF16,
    Contender("compile", "bf16"),
    OURS_INT8,
    ONNX_INT8,
]

COLUMNS = {
    OURS: "ours f32",
    OURS_BF16: "ours bf16",
    Contender("eager", "f32"): "PyTorch f32 eager",
    Contender("compile", "f32"): "compiled",
    Contender("eager", "bf16"): "PyTorch bf16 eager",
    Contender("compile", "bf16"): "compiled",
    Contender("onnx", "f32"): "ONNX Runtime f32",
    OURS_INT8: "ours int8",
    ONNX_INT8: "ONNX Runtime int8",
}


# What holds each contender to an instruction set; ONNX Runtime has no such variable.
INSTRUCTIONS = {
    "avx2": {
        "VITRINE_CPU": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "avx512": {
        "VITRINE_CPU": "avx512",
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}


class Failed(Exception):
    """A process that gave no figure, and its last words, the whole of them in `said`."""

    def __init__(self, said):
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        # What Python and our programs call an error; advice may follow it.
        errors = [line for line in lines if re.match(r"error:|thread '|[\w.]*(Error|Exception)\b", line)]
        super().__init__((errors or lines or ["it said nothing"])[-1])
        self.said = said


class Tools(NamedTuple):
    """What the contenders are run with."""

    python: Path
    ours: Path
    vitrine: Path
    weights: Path
    picture: Path
    onnx: Path


def main():
    args = parse()
    os.environ.update(INSTRUCTIONS.get(args.instructions, {}))
    with tempfile.TemporaryDirectory() as folder:
        tools, without = prepare(args, Path(folder))
        workloads = [w for w in WORKLOADS if w.name in args.workloads and w.name not in without]
        peers = [peer for peer in args.peers if peer not in without]
        report = describe(args, tools, without)
        for workload in workloads:
            report["workloads"].append(measure(workload, peers, tools, args))
            if args.json:
                args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    rows = report["workloads"]
    if not rows or any(str(ours) in row["failures"] for row in rows for ours in (OURS, OURS_BF16, OURS_INT8)):
        sys.exit(1)


def parse():
    def choices(known):
        def split(text):
            chosen = text.split(",")
            for name in chosen:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r}: expected some of {','.join(known)}")
            return chosen

        return split

    names = list(dict.fromkeys(workload.name for workload in WORKLOADS))
    peers = ["eager", "compile", "onnx"]
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument

    def add_path(flag, metavar, text, default=None):
        add(flag, type=Path, metavar=metavar, help=text, default=default)

    add("--workloads", type=choices(names), default=names, metavar="A,B", help=",".join(names))
    add("--peers", type=choices(peers), default=peers, metavar="A,B", help=",".join(peers))
    precisions = ["f32", "bf16", "int8"]
    add("--precisions", type=choices(precisions), default=precisions, metavar="A,B", help="f32,bf16,int8")
    add("--instructions", choices=INSTRUCTIONS, help="hold every contender but ONNX Runtime to these")
    add("--turns", type=int, default=5, metavar="N", help="processes of each contender (default: 5)")
    add("--threads", type=int, default=cores(), metavar="N", help="threads of each (default: one a core)")
    add("--quick", action="store_true", help="one turn of few steps: shows that it runs, no more")
    add_path("--json", "FILE", "write every single figure here")
    venv = REPOSITORY / "target/peers-venv"
    add_path("--venv", "FOLDER", "the peers' environment, made if missing (default: target/peers-venv)", venv)
    add_path("--ours", "FILE", "the built bench `workloads`; without it, cargo builds it")
    add_path("--vitrine", "FILE", "the program of cold; cargo builds it with the bench")
    add_path("--weights", "FILE", "the weights of cold; without them, random ones")
    add_path("--picture", "FILE", "the picture of cold; without it, a drawn one")
    args = parser.parse_args()
    if min(args.turns, args.threads) < 1:
        parser.error("--turns and --threads: expected 1 or more")
    if args.quick:
        args.turns = 1
    return args


def note(text):
    print(text, file=sys.stderr, flush=True)


def prepare(args, folder):
    """The tools, and why a peer or a workload has to be left out."""
    built = {} if args.ours else build()
    ours = (args.ours or built["workloads"]).resolve()
    vitrine = args.vitrine or built.get("vitrine")
    python = environment(args.venv)
    tools = Tools(
        python,
        ours,
        vitrine and vitrine.resolve(),
        args.weights or folder / "w3.safetensors",
        args.picture or draw(folder / "picture.png"),
        folder / "w3.onnx",
    )

    without = {}

    def attempt(name, command):
        try:
            execute(command)
        except Failed as error:
            without[name] = str(error)

    if "cold" in args.workloads:
        if not vitrine:
            without["cold"] = "name its program with --vitrine"
        elif not args.weights:
            attempt("cold", [ours, "w3-infer", "--save", tools.weights])
    if "onnx" in args.peers and "w3-infer" in args.workloads:
        peer = [python, HERE / "torch_workloads.py"]
        for precision in {"f32", "int8"} & set(args.precisions):
            to = ["--onnx", onnx_file(tools, precision), "--precision", precision]
            attempt("onnx", [*peer, "w3-export", *to, "--threads", args.threads])
    for name, reason in without.items():
        note(f"{name} is left out: {reason}")
    return tools, without


def onnx_file(tools, precision):
    return tools.onnx.with_stem(f"{tools.onnx.stem}-{precision}")


def build():
    """Builds our bench and, as cargo does for every bench, the program; their paths by name."""
    command = ["cargo", "bench", "--no-run", "--bench", "workloads", "--no-default-features"]
    command += ["--features", "cpu", "--message-format=json-render-diagnostics"]
    cargo = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    if cargo.returncode:
        sys.exit("cargo could not build our bench; name a built one with --ours")
    messages = [json.loads(line) for line in cargo.stdout.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}


def environment(folder):
    """Makes the peers' environment where it is missing; its interpreter."""
    python = folder.absolute() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    missing = [name for name, version in versions(python).items() if not version]
    if missing:
        note(f"installing {', '.join(missing)} into {folder}")
        # Its messages are no results.
        subprocess.run([python, "-m", "pip", "install", *missing], check=True, stdout=sys.stderr)
    return python


def versions(python):
    """The versions of Python and of the peers' packages, None where one is missing."""
    code = f"""
import importlib.metadata, json, platform
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
packages = {{name: version(name) for name in {PACKAGES}}}
print(json.dumps({{"python": platform.python_version(), **packages}}))
"""
    return json.loads(subprocess.check_output([python, "-c", code]))


def draw(file):
    """Writes a picture of 640x480 pixels as PNG, smooth with some grain, as photographs are."""
    width, height = 640, 480

    def row(y):
        pixels = ((x * 255 // width, y * 255 // height, (x * y * 31 >> 7) % 64) for x in range(width))
        return b"\0" + bytes(value for pixel in pixels for value in pixel)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(row(y) for y in range(height)))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return file


def measure(workload, peers, tools, args):
    """Every contender's figures for one workload; who fails is named and not tried again."""
    field = [c for c in CONTENDERS if c.who in ["ours", *peers] and c.precision in args.precisions]
    field = [c for c in field if takes_part(c, workload)]
    runs = {contender: [] for contender in field}
    failures = {}
    for turn in range(args.turns):
        for contender in field:
            if contender in failures:
                continue
            try:
                run = figures(contender, workload, tools, args)
                runs[contender].append(run)
                word = f"{run['seconds']:.3f} s" if workload.name == "cold" else f"{run['images_per_s']:.1f} images/s"
            except Failed as error:
                failures[contender] = str(error)
                word = f"failed\n{error.said[-2000:]}"
            note(f"{workload}, turn {turn + 1} of {args.turns}, {contender}: {word}")
    return summary(workload, runs, failures)


def takes_part(contender, workload):
    if workload.name == "cold":
        return contender in (OURS, Contender("eager", "f32"))
    if contender.precision == "int8":
        return workload.name == "w3-infer"
    return contender.who != "onnx" or workload.name == "w3-infer"


def figures(contender, workload, tools, args):
    """One process of one contender."""
    ours = contender.who == "ours"
    peer = [tools.python, HERE / "torch_workloads.py", workload.name, "--threads", args.threads]
    if workload.name == "cold":
        classify = [tools.vitrine, "--threads", args.threads, "classify", tools.weights, tools.picture]
        output, seconds, peak = execute(classify if ours else [*peer, "--image", tools.picture])
        return {"seconds": seconds, "peak_rss_mb": peak}
    # A step of fine-tuning takes seconds, of which the first is the only one that differs.
    warmup = 1 if args.quick or workload.name.endswith("-tune") else 3
    steps = max(2, workload.steps // 5) if args.quick else workload.steps
    command = [tools.ours, workload.name, "--threads", args.threads] if ours else [*peer, "--peer", contender.who]
    command += ["--precision", contender.precision, "--batch", workload.batch]
    command += ["--steps", steps, "--warmup", warmup]
    if contender.who == "onnx":
        command += ["--onnx", onnx_file(tools, contender.precision)]
    output, _, _ = execute(command)
    try:
        run = json.loads(output.splitlines()[-1])
        run["images_per_s"], run["peak_rss_mb"]
    except (IndexError, KeyError, ValueError):
        raise Failed(f"printed no figures but {output[-200:]!r}") from None
    return {**run, "steps": steps, "warmup": warmup}


def execute(command):
    """Runs a process: what it printed, its seconds from start to the first of it, its peak MiB."""
    command = [str(word) for word in command]
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise Failed(f"error: cannot start {command[0]}: {error.strerror}") from None
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            first = process.stdout.read(1)
            seconds = time.perf_counter() - start
            output = first + process.stdout.read()
        finally:
            limit.cancel()
        peak = wait(process)
        if process.returncode:
            errors.seek(0)
            raise Failed(errors.read().decode(errors="replace") or f"ended with {process.returncode}")
    return output.decode(errors="replace"), seconds, peak


def wait(process):
    """Waits for a process; its peak memory in MiB, where the system counts it."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def summary(workload, runs, failures):
    """Medians, and ratios above 1 where ours is faster."""
    cold = workload.name == "cold"
    unit = "seconds" if cold else "images_per_s"
    medians, memory = {}, {}
    for contender, list_of_runs in runs.items():
        if contender not in failures:
            medians[contender] = statistics.median(run[unit] for run in list_of_runs)
            peaks = [run["peak_rss_mb"] for run in list_of_runs if run["peak_rss_mb"] is not None]
            memory[contender] = statistics.median(peaks) if peaks else None

    def best(of):
        return (min if cold else max)((c for c in medians if of(c)), key=medians.get, default=None)

    def ratio(ours, peer):
        if ours not in medians or peer not in medians:
            return None
        ours, peer = medians[ours], medians[peer]
        return peer / ours if cold else ours / peer

    # Eight bits give other answers, so they are compared with eight bits.
    best_ours = best(lambda c: c.who == "ours" and c.precision != "int8")
    best_peer = best(lambda c: c.who != "ours" and c.precision != "int8")
    best_f32_peer = best(lambda c: c.who != "ours" and c.precision == "f32")
    return {
        "workload": str(workload),
        "batch": workload.batch,
        "unit": unit,
        "median": by_name(medians),
        "median_peak_rss_mb": by_name(memory),
        "best_ours": best_ours and str(best_ours),
        "best_peer": best_peer and str(best_peer),
        "best_f32_peer": best_f32_peer and str(best_f32_peer),
        "ratio_f32": ratio(OURS, best_f32_peer),
        "ratio_best": ratio(best_ours, best_peer),
        "ratio_int8": ratio(OURS_INT8, ONNX_INT8),
        "failures": by_name(failures),
        "runs": by_name(runs),
    }


def by_name(values):
    return {str(contender): value for contender, value in values.items()}


def describe(args, tools, without):
    """What the figures depend on."""
    rustc = said(["rustc", "--version"]) or ""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        # A bench that was handed in may be of another commit.
        "ours_built_here": args.ours is None,
        "processor": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "load_average_at_start": load,
        "threads": args.threads,
        "turns": args.turns,
        "quick": args.quick,
        "versions": {**versions(tools.python), "rustc": rustc.removeprefix("rustc ")},
        "left_out": without,
        "workloads": [],
    }


def said(command):
    """The output of a small command, None where it cannot run."""
    try:
        run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def commit():
    head = said(["git", "rev-parse", "--short=12", "HEAD"])
    return f"{head} with changes" if head and said(["git", "status", "--porcelain"]) else head


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return said(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def table(report):
    """The report as Markdown."""
    heads = ["workload", *COLUMNS.values(), "f32 / best f32 peer", "best / best peer", "int8 / int8 peer", "peak MiB, ours / peer"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for row in report["workloads"]:
        cells = [row["workload"], *(cell(row, str(contender)) for contender in COLUMNS)]
        ratios = (row["ratio_f32"], row["ratio_best"], row["ratio_int8"])
        cells += ["–" if ratio is None else f"**{ratio:.2f}**" for ratio in ratios]
        memory = [row["median_peak_rss_mb"].get(name) for name in (str(OURS), row["best_f32_peer"])]
        cells.append(" / ".join("–" if peak is None else f"{peak:.0f}" for peak in memory))
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    lines += [
        "",
        f"Median of {report['turns']} by turns, in images/s (cold: seconds from start to answer); a ratio above 1",
        "means that ours is faster; peak memory is that of ours and of the fastest peer, both in f32.",
        f"{report['processor']}, {report['threads']} threads on {report['cores']} cores,"
        f" load {report['load_average_at_start']} before; {report['system']};",
        f"{versions};",
        f"commit {report['commit']}, {report['date']}.",
    ]
    if report["quick"]:
        lines.append("A quick run: these figures show that it runs and are not to be quoted.")
    lines += [f"Left out: {name} ({reason})." for name, reason in report["left_out"].items()]
    for row in report["workloads"]:
        lines += [f"Failed: {row['workload']}, {name} ({reason})." for name, reason in row["failures"].items()]
    return "\n".join(lines)


def cell(row, name):
    if name in row["failures"]:
        return "failed"
    if name not in row["median"]:
        return "–"
    median = row["median"][name]
    if row["unit"] == "seconds":
        return f"{median:.3f} s"
    return f"{median:.0f}" if median >= 100 else f"{median:.1f}"


if __name__ == "__main__":
    main()
