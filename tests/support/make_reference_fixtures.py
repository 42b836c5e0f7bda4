#!/usr/bin/env python3
"""Writes tests/fixtures/vit_*.safetensors: weights, pictures, logits and gradients of timm's ViT.

Set-up:  python3 -m venv .venv && .venv/bin/pip install torch timm safetensors
Use:     .venv/bin/python tests/support/make_reference_fixtures.py

Weights are random, not trained: every one of them matters to the logits, norms and biases included.
The gradients are those of the mean negative log-probability of class 2.
"""
import pathlib

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
SHARED = dict(img_size=12, patch_size=4, embed_dim=18, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
VARIANTS = {
    "vit_class_token": dict(global_pool="token"),
    "vit_mean_registers": dict(global_pool="avg", class_token=False, reg_tokens=2, no_embed_class=True, fc_norm=False),
}


def main():
    for name, variant in VARIANTS.items():
        torch.manual_seed(1)
        model = VisionTransformer(**SHARED, **variant).eval()
        with torch.no_grad():
            for path, value in model.named_parameters():
                centre = 1.0 if "norm" in path and path.endswith("weight") else 0.0
                value.copy_(centre + 0.3 * torch.randn_like(value))
        images = torch.randn(3, 3, 12, 12)
        logits = model(images)
        (-logits.log_softmax(1)[:, 2].mean()).backward()
        tensors = {f"weight/{k}": v.detach() for k, v in model.state_dict().items()}
        tensors |= {f"gradient/{k}": v.grad for k, v in model.named_parameters()}
        tensors |= {"images": images, "logits": logits.detach()}
        metadata = {"made_by": f"timm {timm.__version__}, torch {torch.__version__}"}
        save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    main()
