"""Models of other projects with random weights, saved by their own functions.

Set-up:  python3 -m venv .venv && .venv/bin/pip install torch torchvision timm transformers safetensors
Every weight is drawn, norms and biases included, so that each one matters to the answer.
"""
import json
import pathlib

import timm
import torch
import torchvision
import transformers as hf
from safetensors.torch import save_file
from timm.models._hub import save_for_hf

TINY = dict(embed_dim=12, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)

# timm's architectures at full size, each with what makes it tiny.
TIMM = {
    "vit_tiny_patch16_224": dict(img_size=16, patch_size=8, **TINY),
    "vit_base_patch16_224_miil": dict(img_size=16, patch_size=8, qkv_bias=False, **TINY),
    "vit_small_patch32_224": dict(img_size=64, **TINY),
    "vit_base_patch8_224": dict(img_size=24, **TINY),
    "vit_small_patch14_dinov2": dict(img_size=28, **(TINY | dict(num_classes=0))),
    "vit_small_patch14_reg4_dinov2": dict(img_size=28, **(TINY | dict(num_classes=0))),
    "deit_tiny_patch16_224": dict(img_size=16, patch_size=8, **TINY),
    "deit_tiny_distilled_patch16_224": dict(img_size=16, patch_size=8, **TINY),
    "deit3_small_patch16_224": dict(img_size=16, patch_size=8, **TINY),
    "vit_wee_patch16_reg1_gap_256": dict(img_size=16, patch_size=8, **TINY),
    "vit_little_patch16_reg4_gap_256": dict(img_size=16, patch_size=8, **TINY),
    "vit_medium_patch16_gap_256": dict(img_size=16, patch_size=8, **TINY),
    "vit_so150m_patch16_reg4_gap_256": dict(img_size=16, patch_size=8, **TINY),
    "vit_base_patch16_siglip_gap_224": dict(img_size=16, patch_size=8, **TINY),
    "vit_so400m_patch16_siglip_gap_256": dict(img_size=16, patch_size=8, **TINY),
    "eva_large_patch14_196": dict(img_size=28, **TINY),
    "flexivit_small": dict(img_size=16, patch_size=8, **TINY),
    "vit_base_patch16_224.qknorm": dict(img_size=16, patch_size=8, qk_norm=True, **TINY),
    "resnet18": dict(num_classes=5, channels=(4, 8, 16, 32), stem_width=4, img_size=96),
}

SIZES = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=8)
MLP = dict(intermediate_size=20)
LABELS = dict(id2label={i: w for i, w in enumerate(["ant", "bee", "cat", "dog", "eel"])})

TRANSFORMERS = {
    "ViTForImageClassification": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES, **MLP, **LABELS)),
    "ViTForImageClassification-no-bias": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(**SIZES, **MLP, **LABELS, qkv_bias=False, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-3)),
    "ViTModel": lambda: hf.ViTModel(hf.ViTConfig(**SIZES, **MLP)),
    "DeiTForImageClassification": lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SIZES, **MLP, **LABELS)),
    "DeiTForImageClassificationWithTeacher": lambda: hf.DeiTForImageClassificationWithTeacher(
        hf.DeiTConfig(**SIZES, **MLP, **LABELS)),
    "ViTMAEForPreTraining": lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig(
        **SIZES, **MLP, decoder_hidden_size=16, decoder_num_attention_heads=2, decoder_num_hidden_layers=1,
        decoder_intermediate_size=24)),
    "Dinov2ForImageClassification": lambda: hf.Dinov2ForImageClassification(
        hf.Dinov2Config(**SIZES, mlp_ratio=2, **LABELS)),
    "Dinov2Model": lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES, mlp_ratio=2)),
    # 32 pixels in the settings, 24 in the preprocessing: positions are interpolated.
    "Dinov2ForImageClassification-interpolated": lambda: hf.Dinov2ForImageClassification(
        hf.Dinov2Config(**(SIZES | dict(image_size=32)), mlp_ratio=2, **LABELS)),
    "Dinov2WithRegistersForImageClassification": lambda: hf.Dinov2WithRegistersForImageClassification(
        hf.Dinov2WithRegistersConfig(**(SIZES | dict(image_size=32)), mlp_ratio=2, **LABELS)),
    "SiglipForImageClassification": lambda: hf.SiglipForImageClassification(
        hf.SiglipConfig(vision_config=dict(**SIZES, **MLP), **LABELS)),
    "SiglipVisionModel": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SIZES, **MLP)),
}

# In pixels, where it is not the settings' own.
INPUT = {"Dinov2ForImageClassification-interpolated": 24, "Dinov2WithRegistersForImageClassification": 24}


def draw(model, seed=1):
    """Draws every weight and every running statistic."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, value in list(model.named_parameters()) + list(model.named_buffers()):
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            is_scale = path.endswith("weight") and value.ndim == 1
            if path.endswith("running_var"):
                value.copy_(1 + noise.abs())
            elif is_scale or path.endswith("gamma") or path.endswith("lambda1"):
                value.copy_(1 + 0.3 * noise)
            elif value.ndim >= 2 and not path.endswith(("token", "tokens", "embed", "embeddings")):
                value.copy_(noise * 1.2 / value[0].numel() ** 0.5)
            else:
                value.copy_(0.3 * noise)
    return model.eval()


def make_timm(name, arguments, folder):
    """Builds, draws and saves one of timm's; returns it and the side of its pictures."""
    arguments, side = dict(arguments), arguments["img_size"]
    if name == "resnet18":
        del arguments["img_size"]
        arguments["pretrained_cfg_overlay"] = dict(input_size=(3, side, side))
    model = draw(timm.create_model(name.split(".")[0], **arguments))
    save_for_hf(model, folder, safe_serialization=True)
    return model, side


def make_transformers(name, build, folder):
    """Builds, draws and saves one of transformers'; returns it and the side of its pictures."""
    model = draw(build())
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    side = INPUT.get(name) or config.get("image_size") or config["vision_config"]["image_size"]
    square = {"height": side, "width": side}
    settings = dict(do_resize=True, size=square, resample=3, do_center_crop=False, do_rescale=True,
                    rescale_factor=1 / 255, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model, side


def make_torchvision(name, folder):
    """Builds, draws and saves one of torchvision's, as whoever has it would."""
    if name == "vit":
        model = torchvision.models.VisionTransformer(
            image_size=16, patch_size=8, num_layers=2, num_heads=1, hidden_dim=16, mlp_dim=20, num_classes=5)
    else:
        model = torchvision.models.resnet18(num_classes=5)
    draw(model)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return model, 224 if name == "resnet18" else 16


def answer(model, images):
    """What a model says of a batch: logits, or the features that its classifiers are put on."""
    with torch.no_grad():
        out = model(images)
        if isinstance(out, torch.Tensor):
            return out
        if getattr(out, "logits", None) is not None and out.logits.ndim == 2 and not isinstance(model, hf.ViTMAEForPreTraining):
            return out.logits
        if isinstance(model, hf.ViTMAEForPreTraining):
            model.config.mask_ratio = model.vit.config.mask_ratio = 0.0
            # Nothing is hidden, and what is shuffled does not matter to the class token.
            return model.vit(images).last_hidden_state[:, 0]
        hidden = out.last_hidden_state
        if isinstance(model, hf.SiglipVisionModel):
            return hidden.mean(1)
        if isinstance(model, hf.Dinov2Model):
            return torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)
        return hidden[:, 0]


def every(folder):
    """Yields (layout, name, folder, model, side) of each, saved below `folder`."""
    folder = pathlib.Path(folder)
    for name, arguments in TIMM.items():
        at = folder / "timm" / name
        yield ("timm", name, at, *make_timm(name, arguments, at))
    for name, build in TRANSFORMERS.items():
        at = folder / "transformers" / name
        yield ("transformers", name, at, *make_transformers(name, build, at))
    for name in ["vit", "resnet18"]:
        at = folder / "torchvision" / name
        yield ("torchvision", name, at, *make_torchvision(name, at))
