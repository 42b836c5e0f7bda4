#!/usr/bin/env python3
"""Writes tests/fixtures/foreign/: tiny models of timm, transformers and torchvision as they save them, each
with two pictures and what the library answers (`expected.safetensors`). Set-up: see models.py.
"""
import json
import pathlib
import shutil

import models
import torch
import transformers as hf
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "foreign"
# Too large to commit: ResNets are 64 channels wide there, and a patch of 32 has many pixels.
LEFT_OUT = {"resnet18", "vit_small_patch32_224"}


def expect(model, side, folder):
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    tensors = {"images": images, "answer": models.answer(model, images).contiguous()}
    save_file(tensors, folder / "expected.safetensors")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, arguments in models.TIMM.items():
        if name not in LEFT_OUT:
            folder = FOLDER / f"timm-{name}"
            expect(*models.make_timm(name, arguments, folder), folder)
            (folder / "pytorch_model.bin").unlink(missing_ok=True)
    for name, build in models.TRANSFORMERS.items():
        folder = FOLDER / f"transformers-{name}"
        expect(*models.make_transformers(name, build, folder), folder)
    folder = FOLDER / "torchvision-vit"
    expect(*models.make_torchvision("vit", folder), folder)

    # Half the bits, and several files.
    folder = FOLDER / "transformers-ViTForImageClassification-bf16-sharded"
    model, side = models.make_transformers("", models.TRANSFORMERS["ViTForImageClassification"], folder)
    (folder / "model.safetensors").unlink()
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="4KB")
    expect(model.float(), side, folder)
    # The names that modules have, f16.
    folder = FOLDER / "transformers-DeiTForImageClassificationWithTeacher-state-dict"
    model, side = models.make_transformers(
        "", models.TRANSFORMERS["DeiTForImageClassificationWithTeacher"], folder)
    save_file({k: v.contiguous() for k, v in model.half().state_dict().items()}, folder / "model.safetensors")
    expect(model.float(), side, folder)
    folder = FOLDER / "transformers-Dinov2ForImageClassification-state-dict"
    model, side = models.make_transformers("", models.TRANSFORMERS["Dinov2ForImageClassification"], folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    expect(model, side, folder)


if __name__ == "__main__":
    main()
