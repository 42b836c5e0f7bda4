#!/usr/bin/env python3
"""Writes tests/fixtures/{vit_*,resnet18}.safetensors: weights, pictures, logits and gradients of timm's ViT and
torchvision's ResNet-18.

Set-up:  python3 -m venv .venv && .venv/bin/pip install torch torchvision timm safetensors
Use:     .venv/bin/python tests/support/make_reference_fixtures.py

Weights are random, not trained: every one of them matters to the logits, norms and biases included.
The gradients are those of the mean negative log-probability of class 2.
"""
import functools
import pathlib

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch.nn import LayerNorm

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
LARGER = dict(img_size=12, patch_size=4, embed_dim=18, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
SMALLER = dict(img_size=6, patch_size=3, embed_dim=8, depth=2, num_heads=2, mlp_ratio=1.5, num_classes=3)


def epsilon(value):
    return functools.partial(LayerNorm, eps=value)


# Name, class, arguments, and the size of the embedding's weights: one so small that an epsilon of 1e-12 shows.
VARIANTS = [
    ("vit_class_token", VisionTransformer, LARGER | dict(global_pool="token"), 1.0),
    (
        "vit_mean_registers",
        VisionTransformer,
        LARGER | dict(global_pool="avg", class_token=False, reg_tokens=2, no_embed_class=True, fc_norm=False),
        1.0,
    ),
    (
        "vit_norm_after_pooling",
        VisionTransformer,
        SMALLER | dict(global_pool="avg", class_token=False, reg_tokens=1, no_embed_class=True, fc_norm=True),
        1.0,
    ),
    (
        "vit_gelu_tanh",
        VisionTransformer,
        SMALLER
        | dict(global_pool="token", act_layer="gelu_tanh", qk_norm=True, init_values=0.1, norm_layer=epsilon(0.05)),
        1.0,
    ),
    ("vit_epsilon", VisionTransformer, SMALLER | dict(global_pool="token", norm_layer=epsilon(1e-12)), 1e-5),
    ("vit_distilled", VisionTransformerDistilled, SMALLER, 1.0),
]
EMBEDDING = ("patch_embed", "pos_embed", "cls_token")


class NarrowResnet18(torchvision.models.ResNet):
    """torchvision's ResNet-18 with a 64th of its channels."""

    def __init__(self, num_classes):
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
        self.conv1 = torch.nn.Conv2d(3, 1, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(1)
        self.fc = torch.nn.Linear(8, num_classes)

    def _make_layer(self, block, planes, *arguments, **options):
        if planes == 64:
            self.inplanes = 1
        return super()._make_layer(block, planes // 64, *arguments, **options)


def resnet18():
    """Logits in evaluation, and in training with the gradients of some tensors."""
    torch.manual_seed(1)
    # timm's and torchvision's are one function of one set of names.
    theirs, other = torchvision.models.resnet18().eval(), timm.create_model("resnet18").eval()
    other.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.allclose(theirs(image), other(image), atol=1e-5)
    model = NarrowResnet18(3).eval()
    with torch.no_grad():
        for path, value in model.state_dict().items():
            if path.endswith("running_var"):
                value.copy_(0.5 + torch.rand_like(value))
            elif value.is_floating_point():
                centre = 1.0 if value.dim() == 1 and path.endswith("weight") else 0.0
                value.copy_(centre + 0.3 * torch.randn_like(value))
    images = torch.randn(3, 3, 33, 33)
    tensors = {f"weight/{k}": v.clone() for k, v in model.state_dict().items() if v.is_floating_point()}
    tensors |= {"images": images, "logits": model(images).detach()}
    logits = model.train()(images)
    (-logits.log_softmax(1)[:, 2].mean()).backward()
    tensors |= {"training_logits": logits.detach()}
    some = ("conv1.", "bn1.", "layer1.0.", "layer2.0.", "fc.")
    tensors |= {f"gradient/{k}": v.grad for k, v in model.named_parameters() if k.startswith(some)}
    metadata = {"made_by": f"torchvision {torchvision.__version__}, torch {torch.__version__}"}
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / "resnet18.safetensors", metadata)


def main():
    resnet18()
    for name, of, arguments, embedding in VARIANTS:
        torch.manual_seed(1)
        model = of(**arguments).eval()
        with torch.no_grad():
            for path, value in model.named_parameters():
                centre = 1.0 if "norm" in path and path.endswith("weight") else 0.0
                size = embedding if path.startswith(EMBEDDING) else 1.0
                value.copy_(centre + 0.3 * size * torch.randn_like(value))
        images = torch.randn(3, 3, *[arguments["img_size"]] * 2)
        logits = model(images)
        (-logits.log_softmax(1)[:, 2].mean()).backward()
        tensors = {f"weight/{k}": v.detach() for k, v in model.state_dict().items()}
        tensors |= {f"gradient/{k}": v.grad for k, v in model.named_parameters()}
        tensors |= {"images": images, "logits": logits.detach()}
        metadata = {"made_by": f"timm {timm.__version__}, torch {torch.__version__}"}
        save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    main()
