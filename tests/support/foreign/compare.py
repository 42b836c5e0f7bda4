#!/usr/bin/env python3
"""Compares every architecture that vitrine reads with its own library, in both directions.

Use:  compare.py [--tiny] VITRINE LOGITS [NAME...]     (the program and the example `logits`, built; see models.py)

At full size, or tiny as CI does it; it fails where an answer is off by more than 1e-4. Weights are random. "in": the library saves, vitrine reads; "out": vitrine exports what it read in either layout, the
library loads it. Both are the largest difference of an answer to two pictures, over the largest answer, in f32.
"""
import pathlib
import subprocess
import sys
import tempfile

import models
import timm
import torch
import torchvision
import transformers as hf
from safetensors.torch import load_file, save_file

torch.set_num_threads(2)

TIMM = [
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_small_patch32_224", "vit_base_patch16_224",
    "vit_base_patch16_224_miil", "vit_base_patch8_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2",
    "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224",
    "vit_wee_patch16_reg1_gap_256", "vit_little_patch16_reg4_gap_256", "vit_mediumd_patch16_reg4_gap_256",
    "vit_medium_patch16_gap_256", "vit_base_patch16_gap_224", "vit_base_patch16_siglip_gap_224",
    "vit_base_patch32_siglip_gap_256", "flexivit_small", "test_vit", "test_vit2", "resnet18",
]
SMALL = dict(hidden_size=384, num_attention_heads=6)
WIDE = dict(intermediate_size=1536)
TRANSFORMERS = {
    "ViTForImageClassification": lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000)),
    "DeiTForImageClassification": lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SMALL, **WIDE)),
    "DeiTForImageClassificationWithTeacher": lambda: hf.DeiTForImageClassificationWithTeacher(
        hf.DeiTConfig(**SMALL, **WIDE)),
    "ViTMAEForPreTraining": lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig()),
    "Dinov2ForImageClassification": lambda: hf.Dinov2ForImageClassification(
        hf.Dinov2Config(**SMALL, image_size=518, patch_size=14)),
    "Dinov2WithRegistersForImageClassification": lambda: hf.Dinov2WithRegistersForImageClassification(
        hf.Dinov2WithRegistersConfig(**SMALL, image_size=518, patch_size=14)),
    "SiglipForImageClassification": lambda: hf.SiglipForImageClassification(hf.SiglipConfig()),
}
FULL_INPUT = {"Dinov2ForImageClassification": 224, "Dinov2WithRegistersForImageClassification": 224}


def build(only):
    """Yields (layout, name, function that saves into a folder and returns model and side)."""
    wanted = lambda name: not only or any(part in name for part in only)
    for name in TIMM:
        if wanted(f"timm/{name}"):
            side = timm.get_pretrained_cfg(name).input_size[1]
            arguments = {} if "resnet" in name else dict(img_size=side)
            def make(folder, name=name, arguments=arguments, side=side):
                model = models.draw(timm.create_model(name, **arguments))
                models.save_for_hf(model, folder, safe_serialization=True)
                return model, side
            yield "timm", name, make
    for name, one in TRANSFORMERS.items():
        if wanted(f"transformers/{name}"):
            yield "transformers", name, lambda folder, name=name, one=one: models.make_transformers(name, one, folder)
    for name in ["vit_b_16", "resnet18"]:
        if wanted(f"torchvision/{name}"):
            def make(folder, name=name):
                model = models.draw(getattr(torchvision.models, name)(weights=None))
                folder.mkdir(parents=True)
                save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
                return model, 224
            yield "torchvision", name, make


def tiny(only):
    """The same of the tiny models of models.py."""
    wanted = lambda name: not only or any(part in name for part in only)
    for name, arguments in models.TIMM.items():
        # timm's ResNets are 64 channels wide at least.
        if wanted(f"timm/{name}") and name != "resnet18":
            yield "timm", name, lambda folder, name=name, arguments=arguments: models.make_timm(name, arguments, folder)
    for name, one in models.TRANSFORMERS.items():
        if wanted(f"transformers/{name}"):
            yield "transformers", name, lambda folder, name=name, one=one: models.make_transformers(name, one, folder)
    if wanted("torchvision/vit"):
        yield "torchvision", "vit", lambda folder: models.make_torchvision("vit", folder)


def off(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def load(layout, folder):
    if layout == "timm":
        return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return hf.AutoModelForImageClassification.from_pretrained(folder).eval()


def main():
    arguments = sys.argv[1:]
    is_tiny = arguments[:1] == ["--tiny"]
    vitrine, logits, *only = arguments[is_tiny:]
    if not is_tiny:
        models.INPUT = FULL_INPUT
    worst, compared = 0.0, 0
    print("| layout | architecture | parameters | pixels | in | out to timm | out to transformers |\n|---|---|---:|---:|---:|---:|---:|")
    for layout, name, make in (tiny if is_tiny else build)(only):
        with tempfile.TemporaryDirectory() as place:
            place = pathlib.Path(place)
            torch.manual_seed(0)
            model, side = make(place / "in")
            for pickle in (place / "in").glob("*.bin"):
                pickle.unlink()
            images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
            expected = models.answer(model, images)
            save_file({"images": images}, place / "images.safetensors")
            count = sum(p.numel() for p in model.parameters()) / 1e6
            del model
            run = subprocess.run([logits, place / "in", place / "images.safetensors", place / "out.safetensors"],
                                 capture_output=True, text=True)
            row = [layout, name, f"{count:.1f} M", str(side)]
            if run.returncode:
                sys.exit(f"{layout} {name}: {run.stderr.strip()}")
            found = [off(load_file(place / "out.safetensors")["answer"], expected)]
            row.append(f"{found[0]:.1e}")
            for other in ["timm", "transformers"]:
                out = place / other
                run = subprocess.run([vitrine, "export", place / "in", out, "--layout", other],
                                     capture_output=True, text=True)
                if run.returncode:
                    reason = run.stderr.strip().splitlines()[-1].removeprefix("error: ")
                    row.append("no: " + reason.split("like this one: ")[-1])
                    continue
                found.append(off(models.answer(load(other, out), images), expected))
                row.append(f"{found[-1]:.1e}")
            print("|", " | ".join(row), "|", flush=True)
            worst, compared = max(worst, *found), compared + len(found)
    print(f"\n{compared} compared, the worst off by {worst:.1e}")
    sys.exit(compared == 0 or not worst <= 1e-4)


if __name__ == "__main__":
    main()
