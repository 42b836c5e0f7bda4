#!/usr/bin/env python3
"""Compares what vitrine and the libraries make of one picture file: preprocessing, model and softmax together.

Use:  from_files.py VITRINE PICTURES [NAME...]     (PICTURES: a folder of photographs; see models.py for the set-up)

Weights are random and of full size. Each library saves a model, prepares each picture with its own transforms and says
its logits; `vitrine classify --json` says its probabilities, whose logarithms are the logits but for a constant. What
is printed is the largest difference of logits less their mean, over the largest of them, in f32.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import models
import timm
import torch
import torchvision
import transformers as hf
from PIL import Image
from safetensors.torch import save_file

torch.set_num_threads(2)

# Longer side in pixels and kind of each picture that the photographs are reduced to; None is as it is.
SIZES = [(None, "jpg"), (1600, "jpg"), (1023, "png"), (640, "jpg"), (500, "png"), (301, "jpg"), (224, "png"),
         (150, "jpg"), (97, "png"), (33, "jpg")]

TIMM = ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_wee_patch16_reg1_gap_256", "resnet18"]
SMALL = dict(hidden_size=192, num_attention_heads=3, num_hidden_layers=6)
TRANSFORMERS = {
    "ViTForImageClassification": (
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**SMALL, intermediate_size=768, num_labels=10)),
        lambda: hf.ViTImageProcessor()),
    "DeiTForImageClassification": (
        lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SMALL, intermediate_size=768, num_labels=10)),
        lambda: hf.DeiTImageProcessor()),
    "Dinov2WithRegistersForImageClassification": (
        lambda: hf.Dinov2WithRegistersForImageClassification(
            hf.Dinov2WithRegistersConfig(**SMALL, image_size=518, patch_size=14, num_labels=10)),
        lambda: hf.BitImageProcessor(size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406],
                                     image_std=[0.229, 0.224, 0.225])),
    "SiglipForImageClassification": (
        lambda: hf.SiglipForImageClassification(hf.SiglipConfig(
            vision_config=dict(**SMALL, intermediate_size=768, image_size=224, patch_size=16), num_labels=10)),
        lambda: hf.SiglipImageProcessor()),
}
TORCHVISION = ["resnet18", "vit_b_16"]


def pictures(photographs, out):
    """Reduces photographs to `SIZES`, and returns the files in their order."""
    found = sorted(path for path in photographs.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    files = []
    for i, (longer, kind) in enumerate(SIZES):
        image = Image.open(found[i % len(found)]).convert("RGB")
        if longer:
            image.thumbnail((longer, longer), Image.Resampling.LANCZOS)
        files.append(out / f"{i}.{kind}")
        image.save(files[-1], **({"quality": 90} if kind == "jpg" else {}))
    return files


def logits_of(vitrine, folder, files, count):
    """What vitrine says of each file: one row of logits less their mean."""
    run = subprocess.run([vitrine, "classify", folder, *files, "--topk", str(count), "--json"],
                         capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    rows = []
    for picture in json.loads(run.stdout):
        row = torch.zeros(count, dtype=torch.float64)
        for prediction in picture["predictions"]:
            row[prediction["index"]] = prediction["prob"]
        rows.append(row.log())
    return torch.stack(rows)


def build(only):
    """Yields (layout, name, function that saves into a folder and returns model and preparation)."""
    wanted = lambda name: not only or any(part in name for part in only)
    for name in TIMM:
        if wanted(f"timm/{name}"):
            def make(folder, name=name):
                model = models.draw(timm.create_model(name, num_classes=10))
                models.save_for_hf(model, folder, safe_serialization=True)
                return model, timm.data.create_transform(**timm.data.resolve_model_data_config(model))
            yield "timm", name, make
    for name, (model, processor) in TRANSFORMERS.items():
        if wanted(f"transformers/{name}"):
            def make(folder, model=model, processor=processor):
                model, processor = models.draw(model()), processor()
                model.save_pretrained(folder)
                processor.save_pretrained(folder)
                # The one that the library itself chooses for this folder.
                processor = hf.AutoImageProcessor.from_pretrained(folder)
                return model, lambda image: processor(image, return_tensors="pt")["pixel_values"][0]
            yield "transformers", name, make
    for name in TORCHVISION:
        if wanted(f"torchvision/{name}"):
            def make(folder, name=name):
                model = models.draw(getattr(torchvision.models, name)(weights=None, num_classes=10))
                folder.mkdir(parents=True)
                save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
                weights = {"resnet18": torchvision.models.ResNet18_Weights, "vit_b_16": torchvision.models.ViT_B_16_Weights}
                return model, weights[name].IMAGENET1K_V1.transforms()
            yield "torchvision", name, make


def main():
    vitrine, photographs, *only = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        files = pictures(pathlib.Path(photographs), place)
        sides = [Image.open(file).size for file in files]
        print(f"pictures: {', '.join(f'{w}×{h} {f.suffix[1:]}' for (w, h), f in zip(sides, files))}\n")
        print("| layout | architecture | pictures | largest difference of logits | same first class |")
        print("|---|---|---:|---:|---:|")
        for number, (layout, name, make) in enumerate(build(only)):
            torch.manual_seed(0)
            folder = place / str(number)
            model, prepare = make(folder)
            images = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
            expected = models.answer(model, images).double()
            found = logits_of(vitrine, folder, files, expected.shape[1])
            centred = lambda rows: rows - rows.mean(1, keepdim=True)
            expected, found = centred(expected), centred(found)
            off = (found - expected).abs().max(1).values / expected.abs().max(1).values
            same = (found.argmax(1) == expected.argmax(1)).sum().item()
            print(f"| {layout} | {name} | {len(files)} | {off.max():.1e} | {same} of {len(files)} |", flush=True)


if __name__ == "__main__":
    main()
