"""What timm, transformers and torchvision make of a picture, and what vitrine makes of it. Run by hand:

    cargo build --release --example prepare
    python tests/support/pictures/prepared.py target/release/examples/prepare PICTURES…
    python tests/support/pictures/prepared.py - --fixture tests/fixtures/prepared.json

Needs Pillow, NumPy, torch, torchvision, timm and transformers. One line for each preparation and picture: the largest
difference in steps of a byte, and the share of values that differ by more than one such step; the last line of each says
how many pictures hold the bound, one in a thousand. No pretrained weights are loaded."""

import argparse
import io
import json
import logging
import os
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import torchvision
import transformers
from PIL import Image
from timm.data import create_transform, resolve_data_config

import jpeg_writer as j

logging.disable(logging.WARNING)
Image.MAX_IMAGE_PIXELS = None
FILTERS = {0: "nearest", 4: "box", 2: "bilinear", 5: "hamming", 3: "bicubic", 1: "lanczos"}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def by_timm(config):
    config = resolve_data_config(pretrained_cfg=config)
    return lambda picture: create_transform(**config)(picture)


def by_transformers(processor):
    return lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]


def preparations():
    """Name, project, its settings (None for torchvision), their mean and deviation, and the preparation itself."""
    names = [
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "deit_tiny_patch16_224.fb_in1k",
        "deit3_small_patch16_384.fb_in22k_ft_in1k",
        "vit_wee_patch16_reg1_gap_256.sbb_in1k",
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_siglip_gap_224.webli",
        "resnet18.a1_in1k",
        "resnet18.tv_in1k",
    ]
    configs = {name: timm.get_pretrained_cfg(name).to_dict() for name in names}
    plain = {"input_size": [3, 224, 224], "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    configs["border"] = {**plain, "crop_mode": "border", "crop_pct": 1.0}
    configs["border 0.9"] = {**plain, "crop_mode": "border", "crop_pct": 0.9}
    configs["squash 0.9"] = {**plain, "crop_mode": "squash", "crop_pct": 0.9, "interpolation": "bilinear"}
    configs["lanczos"] = {**plain, "interpolation": "lanczos"}
    configs["padded"] = {**plain, "crop_pct": 1.2}
    for name, config in configs.items():
        config = json.loads(json.dumps(config, default=str))
        yield name, "timm", config, config["mean"], config["std"], by_timm(config)

    t = transformers
    processors = {
        "ViTImageProcessor": t.ViTImageProcessor(),
        "ViTImageProcessorPil": t.ViTImageProcessorPil(),
        "DeiTImageProcessor": t.DeiTImageProcessor(**IMAGENET),
        "DeiTImageProcessorPil": t.DeiTImageProcessorPil(**IMAGENET),
        "BitImageProcessor": t.BitImageProcessor(size={"shortest_edge": 256}, **IMAGENET),
        "BitImageProcessorPil": t.BitImageProcessorPil(size={"shortest_edge": 256}, **IMAGENET),
        "SiglipImageProcessor": t.SiglipImageProcessor(),
        "SiglipImageProcessorPil": t.SiglipImageProcessorPil(),
        "CLIPImageProcessor": t.CLIPImageProcessor(),
        "ConvNextImageProcessor": t.ConvNextImageProcessor(size={"shortest_edge": 224}),
    }
    for name, processor in processors.items():
        config = json.loads(json.dumps(processor.to_dict(), default=str))
        yield name, "transformers", config, config["image_mean"], config["image_std"], by_transformers(processor)

    for name in ["ViT_B_16_Weights", "ResNet18_Weights"]:
        transform = getattr(torchvision.models, name).IMAGENET1K_V1.transforms()
        yield name, "torchvision", None, IMAGENET["image_mean"], IMAGENET["image_std"], transform


def compare(program, pictures):
    is_close = True
    for name, project, config, mean, std, prepare in preparations():
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(config, file)
            file.flush()
            command = [program, project, file.name if config else "-", *pictures]
            ours = np.frombuffer(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, "<f4")
        ours = ours.reshape(len(pictures), 3, -1)
        steps = np.array(std)[:, None] * 255
        held = 0
        for path, got in zip(pictures, ours):
            want = np.asarray(prepare(Image.open(path).convert("RGB")), np.float64).reshape(3, -1)
            if want.shape != got.shape:
                sys.exit(f"{name}: {want.shape} values, and not {got.shape}")
            apart = np.abs(got - want) * steps
            share = (apart > 1.001).mean()
            held += share <= 1e-3
            print(f"{project:13}{name:45}{os.path.basename(path):40}{apart.max():7.2f}{100 * share:9.4f} %")
        print(f"{project:13}{name:45}{held} of {len(pictures)} hold", flush=True)
        is_close &= held == len(pictures)
    return is_close


def formula(width, height):
    """The picture of the unit tests."""
    x, y, c = np.meshgrid(np.arange(width), np.arange(height), np.arange(3))
    return Image.fromarray(((x * 37 + y * 59 + c * 83 + x * y * 5) % 256).astype(np.uint8))


def decoded():
    """Small JPEGs of many kinds, and their pixels."""
    x, y = np.meshgrid(np.arange(21), np.arange(13))
    scene = np.stack([x * 12, 255 - y * 19, (x // 7 + y // 5) % 2 * 200 + 20], -1).astype(np.uint8)
    picture = Image.fromarray(scene)

    def saved(picture, **how):
        out = io.BytesIO()
        picture.save(out, "JPEG", **how)
        return out.getvalue()

    half, all = [(1, 1)] * 2, [(1, 1)] * 3
    dc_refined = [([0, 1, 2], 0, 0, 0, 1), ([0], 1, 63), ([1], 1, 63), ([0, 1, 2], 0, 0, 1, 0), ([2], 1, 63)]
    files = {
        "444": saved(picture, quality=97, subsampling=0),
        "422": saved(picture, quality=80, subsampling=1),
        "420": saved(picture, quality=90, subsampling=2),
        "420 at the worst quality": saved(picture, quality=1, subsampling=2),
        "420 of two columns": saved(picture.crop((12, 0, 14, 5)), quality=90, subsampling=2),
        "420, restarts": saved(picture, quality=75, subsampling=2, restart_marker_blocks=1),
        "420, progressive": saved(picture, quality=90, subsampling=2, progressive=True),
        "422, progressive, restarts": saved(picture, subsampling=1, progressive=True, restart_marker_blocks=2),
        "grey": saved(picture.convert("L"), quality=85),
        "grey, progressive": saved(picture.convert("L"), quality=85, progressive=True),
        "440": j.encode(j.ycc(scene), [(1, 2), *half], before=j.JFIF),
        "411": j.encode(j.ycc(scene), [(4, 1), *half], before=j.JFIF),
        "444, refined": j.encode(j.ycc(scene), all, before=j.JFIF, progressive=True, scans=dc_refined),
        "420, components apart": j.encode(j.ycc(scene), [(2, 2), *half], scans=[([i], 0, 63) for i in range(3)]),
        "wide quantisation": j.encode(j.ycc(scene), all, before=j.JFIF, wide_quant=True),
        "red, green and blue": j.encode([scene[..., i] for i in range(3)], before=j.adobe(0)),
    }
    for name, jpeg in files.items():
        shown = Image.open(io.BytesIO(jpeg)).convert("RGB")
        yield {"name": name, "jpeg": jpeg.hex(), "size": shown.size, "pixels": shown.tobytes().hex()}


def fixture(path):
    """Small pictures: `decoded` from JPEGs; `resized` by each filter, the width first whatever Pillow's version;
    `prepared` by each policy."""
    resized = []
    for width, height, to in [(11, 7, (4, 3)), (11, 7, (5, 7)), (11, 7, (11, 3)), (5, 3, (9, 8)), (97, 3, (2, 5))]:
        for number, filter in FILTERS.items():
            picture = formula(width, height).resize((to[0], height), number).resize(to, number)
            resized.append({"size": [width, height], "to": to, "filter": filter, "pixels": picture.tobytes().hex()})

    prepared = []

    def case(project, config, width, height, transform):
        picture = formula(width, height)
        mean, std = (config[k] if k in config else config["image_" + k] for k in ("mean", "std"))
        values = np.asarray(transform(picture), np.float64).transpose(1, 2, 0)
        pixels = np.rint((values * std + mean) * 255).astype(np.uint8)
        entry = {"project": project, "config": config, "size": [width, height], "pixels": pixels.tobytes().hex()}
        prepared.append(entry)

    sizes = [(13, 10), (10, 13), (7, 7), (3, 11), (11, 12)]
    for mode in ["center", "squash", "border"]:
        for crop_pct in [0.8, 0.9, 1.0, 1.3]:
            for width, height in sizes[:3] if mode == "squash" else sizes:
                config = {"input_size": [3, 7, 7], "interpolation": "bilinear", "crop_pct": crop_pct, "crop_mode": mode}
                config |= {"mean": [0.5, 0.4, 0.25], "std": [0.5, 0.25, 0.2]}
                case("timm", config, width, height, by_timm(config))
    for processor in [
        transformers.BitImageProcessorPil(size={"shortest_edge": 9}, crop_size=6, resample=2),
        transformers.BitImageProcessorPil(size={"shortest_edge": 8}, crop_size=7, resample=2),
        transformers.DeiTImageProcessorPil(size=9, crop_size=6, resample=2),
        transformers.ViTImageProcessorPil(size=7),
    ]:
        for width, height in sizes:
            config = json.loads(json.dumps(processor.to_dict(), default=str))
            case("transformers", config, width, height, by_transformers(processor))
    with open(path, "w") as file:
        json.dump({"decoded": list(decoded()), "resized": resized, "prepared": prepared}, file, separators=(",", ":"))
        file.write("\n")


parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("pictures", nargs="*")
parser.add_argument("--fixture")
given = parser.parse_args()
if given.fixture:
    fixture(given.fixture)
elif not compare(given.program, given.pictures):
    sys.exit(1)
