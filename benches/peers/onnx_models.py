#!/usr/bin/env python3
"""What `vitrine export OUT.onnx` writes, in ONNX Runtime: is it valid, does it answer as `vitrine classify`, and is
it as fast as what PyTorch exports of the same architecture?

Run it with the interpreter of the peers' environment (README.md beside this file), with built programs:

    target/peers-venv/bin/python benches/peers/onnx_models.py --ours BENCH --vitrine VITRINE

BENCH is what `cargo bench --no-run --bench workloads` builds. For w1 (vit-w1, 32 pixels), w2 (resnet18, 32 pixels)
and w3 (vit-tiny, 224 pixels) it exports random weights, has `onnx.checker` look at them, compares probabilities of
eight pictures, and times ONNX Runtime on our model, ONNX Runtime on PyTorch's two exporters' and vitrine itself by
turns, one process each. It prints a Markdown table and fails where a model is invalid or answers differently.
"""

import argparse
import contextlib
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKLOADS = {"w1": ("vit", 32), "w2": ("resnet", 32), "w3": ("vit_tiny", 224)}
# Batch size, and how many at a time make about a second.
BATCHES = {"w1": [(1, 150), (16, 20), (128, 3)], "w2": [(1, 40), (16, 4)], "w3": [(1, 30), (16, 3)]}
PICTURES = 8


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", type=Path, help="the built bench `workloads`")
    parser.add_argument("--vitrine", type=Path, help="the built program")
    parser.add_argument("--workloads", default="w1,w2,w3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every single figure here")
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.time and not (args.ours and args.vitrine):
        parser.error("name the programs with --ours and --vitrine")
    return args


def session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def time_one(args):
    """Milliseconds of a batch, printed: the mode in which this program calls itself."""
    import numpy

    model = session(args.time, args.threads)
    [entry] = model.get_inputs()
    shape = [args.batch, *entry.shape[1:]]
    pictures = numpy.random.default_rng(0).standard_normal(shape, numpy.float32)
    for step in range(3 + args.steps):
        if step == 3:
            start = time.perf_counter()
        model.run(["logits"], {entry.name: pictures})
    print(1e3 * (time.perf_counter() - start) / args.steps)


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(str(word) for word in command)}: {done.stderr.strip()}")
    return done.stdout


def of_torch(workload, folder):
    """The two exporters' models, by name; one that fails is named and left out."""
    import torch
    import torch_workloads

    torch.manual_seed(0)
    network, size = WORKLOADS[workload]
    model = getattr(torch_workloads, network)().eval()
    files = {}
    for name, dynamo in [("torch.onnx", True), ("torch.onnx, older", False)]:
        path = folder / f"{workload}-{'dynamo' if dynamo else 'script'}.onnx"
        batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"images": {0: "batch"}}}
        names = {"input_names": ["images"], "output_names": ["logits"]}
        images = (torch.randn(2, 3, size, size),)
        try:
            # Its progress and warnings are no results.
            quiet = io.StringIO()
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                torch.onnx.export(model, images, path, dynamo=dynamo, **names, **batch)
            files[name] = path
        except Exception as error:  # whatever it is, our own model is measured all the same
            print(f"{workload}: {name} failed: {str(error).splitlines()[0]}", file=sys.stderr)
    return files


def stir(path):
    """Adds noise to every tensor of a weights file and gives it its hash again (docs/files.md): as they are drawn,
    weights answer the same to every picture."""
    import numpy

    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__")
    random = numpy.random.default_rng(2)
    for name in sorted(header):
        first, last = (start + offset for offset in header[name]["data_offsets"])
        values = numpy.frombuffer(bytes(data[first:last]), "<f4")
        noise = random.standard_normal(len(values), numpy.float32)
        # Variances stay above 0; a head makes answers of small features.
        scale = 0.5 if ".head." in name else 0.03
        stirred = values * (1 + 0.2 * abs(noise)) if name.endswith("running_var") else values + scale * noise
        data[first:last] = stirred.astype("<f4").tobytes()
    mark = rb'\"sha256\":\"'
    place = data.index(mark) + len(mark)
    data[place : place + 64] = b"0" * 64
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data)


def compare(args, weights, out, size, folder):
    """Largest difference of a probability from `vitrine classify`, as a share of the largest one."""
    import numpy
    import onnx
    from PIL import Image

    pixels_out = out.with_stem(f"{out.stem}-pixels")
    run(args.vitrine, "export", weights, out)
    run(args.vitrine, "export", weights, pixels_out, "--include-preprocessing")
    for path in (out, pixels_out):
        onnx.checker.check_model(path, full_check=True)
    random = numpy.random.default_rng(1)
    # A colour a picture, and noise: noise alone is the same to a network that averages.
    colours = random.integers(0, 200, (PICTURES, 1, 1, 3))
    pixels = (colours + random.integers(0, 56, (PICTURES, size, size, 3))).astype(numpy.uint8)
    files = [folder / f"{i}-{size}.png" for i in range(PICTURES)]
    for path, picture in zip(files, pixels):
        Image.fromarray(picture).save(path)
    said = json.loads(run(args.vitrine, "classify", weights, *files, "--topk", 5, "--precision", "f32", "--json"))
    model = session(pixels_out, args.threads)
    normalised = session(out, args.threads)
    probabilities = model.run(["probabilities"], {"pixels": pixels})[0]
    notes = normalised.get_modelmeta().custom_metadata_map
    preprocessing = json.loads(notes["preprocessing"])
    mean, std = (numpy.array(preprocessing[key], numpy.float32) for key in ("mean", "std"))
    values = ((pixels / numpy.float32(255) - mean) / std).transpose(0, 3, 1, 2).astype(numpy.float32)
    again = normalised.run(["probabilities"], {"pixel_values": values})[0]
    differences = [abs(probabilities - again).max()]
    by_file = {Path(one["file"]).name: one["predictions"] for one in said}
    for path, row in zip(files, probabilities):
        differences += [abs(row[one["index"]] - one["score"]) for one in by_file[path.name]]
    if numpy.ptp(probabilities, axis=0).max() < 0.1 * probabilities.max():
        sys.exit(f"{out.stem}: every picture is answered alike, which compares nothing")
    return float(max(differences) / probabilities.max())


def main():
    args = parse()
    if args.time:
        return time_one(args)
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for workload in args.workloads.split(","):
            _, size = WORKLOADS[workload]
            weights = folder / f"{workload}.safetensors"
            out = folder / f"{workload}.onnx"
            run(args.ours, f"{workload}-infer", "--save", weights)
            stir(weights)
            difference = compare(args, weights, out, size, folder)
            files = {"ours": out, **of_torch(workload, folder)}
            report[workload] = {"difference": difference, "batches": {}}
            for batch, steps in BATCHES[workload]:
                ms = {name: [] for name in [*files, "vitrine"]}
                for _ in range(args.turns):
                    for name, path in files.items():
                        flags = ["--time", path, "--batch", batch, "--steps", steps, "--threads", args.threads]
                        ms[name].append(float(run(sys.executable, __file__, *flags)))
                    flags = ["--batch", batch, "--steps", steps, "--threads", args.threads]
                    own = json.loads(run(args.ours, f"{workload}-infer", *flags))
                    ms["vitrine"].append(own["ms_per_step"])
                report[workload]["batches"][batch] = ms
                if args.json:
                    args.json.write_text(json.dumps(report, indent=2) + "\n")
    columns = ["ours", "torch.onnx", "torch.onnx, older", "vitrine"]
    print("| model | batch | ours in ORT, ms | torch.onnx in ORT | its older exporter | vitrine itself | probabilities |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for workload, row in report.items():
        for batch, ms in row["batches"].items():
            cells = [f"{statistics.median(ms[name]):.2f}" if ms.get(name) else "-" for name in columns]
            print(f"| {workload} | {batch} | {' | '.join(cells)} | {row['difference']:.1e} |")
    if any(row["difference"] > 1e-4 for row in report.values()):
        sys.exit("ONNX Runtime answers differently than vitrine")


if __name__ == "__main__":
    main()
