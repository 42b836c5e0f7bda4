#!/usr/bin/env python3
"""Fine-tunes a timm ViT on fixed batches, so that the same updates can be taken by vitrine and their losses compared.

Use:  finetune.py                          (writes tests/fixtures/finetune/, which tests/finetune.rs reads)
      finetune.py UPDATES [NAME [BATCH]]   (the example `updates`, built: compares at full size, see models.py)

AdamW at a constant rate, the gradient's norm clipped, no augmentation, as vitrine's settings have it:

- What decays is the same in both: matrices and convolutions, not norms, biases, positions and tokens.
- With layer-wise decay timm counts the last norm to the last block. vitrine, as BEiT and MAE, counts it to the head;
  `param_groups` says so to timm.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import models
import timm
import torch
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay

torch.set_num_threads(2)

FIXTURE = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "finetune"
UPDATES = 20
BETAS, EPSILON, WEIGHT_DECAY, CLIP = (0.9, 0.99), 1e-8, 0.05, 1.0
TINY = dict(img_size=16, patch_size=4, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2)


def make_start(folder, name, **arguments):
    """Saves a model as timm draws it; returns it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **arguments)
    models.save_for_hf(model, folder, safe_serialization=True)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    return model


def draw_batches(count, size, side):
    """Returns noise with a colour for each class, so that there is something to learn: [count, size, 3, side, side]."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 10, (count, size), generator=generator)
    colours = torch.randn(10, 3, 1, 1, generator=generator)
    images = torch.randn(count, size, 3, side, side, generator=generator) + colours[labels]
    return images, labels


def param_groups(model, lr, layer_decay, norm_with_head=True):
    if norm_with_head:
        # What no pattern matches is the head's.
        matcher = model.group_matcher() | dict(blocks=r"^blocks\.(\d+)")
        model.group_matcher = lambda coarse=False: matcher
    groups = param_groups_layer_decay(model, WEIGHT_DECAY, model.no_weight_decay(), layer_decay=layer_decay)
    return [dict(group, lr=lr * group["lr_scale"]) for group in groups]


def finetune(model, images, labels, lr, layer_decay, **arguments):
    """Returns the loss of each update."""
    model.train()
    optimizer = torch.optim.AdamW(param_groups(model, lr, layer_decay, **arguments), lr, BETAS, EPSILON)
    losses = []
    for update in range(UPDATES):
        batch = update % len(images)
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses


def make(folder, name, count, size, lr, **arguments):
    """Writes start, batches and timm's losses; returns those with timm's own groups."""
    model = make_start(folder, name, **arguments)
    start = {path: value.clone() for path, value in model.state_dict().items()}
    side = arguments.get("img_size", 224)
    images, labels = draw_batches(count, size, side)
    save_file({"images": images, "labels": labels}, folder / "batches.safetensors")
    settings = dict(lr=lr, beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay=WEIGHT_DECAY, clip_grad=CLIP)
    runs = []
    for layer_decay in [1.0, 0.75]:
        model.load_state_dict(start)
        runs.append(dict(layer_decay=layer_decay, losses=finetune(model, images, labels, lr, layer_decay)))
    (folder / "runs.json").write_text(json.dumps(dict(optimizer=settings, runs=runs), indent=1) + "\n")
    del model.group_matcher
    model.load_state_dict(start)
    return finetune(model, images, labels, lr, 0.75, norm_with_head=False)


def off(found, expected):
    """The largest relative difference of two runs, at any update."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def main():
    if len(sys.argv) == 1:
        FIXTURE.mkdir(parents=True, exist_ok=True)
        make(FIXTURE, "vit_tiny_patch16_224", count=2, size=4, lr=1e-2, **TINY)
        return
    updates, *rest = sys.argv[1:]
    name, size = (rest + ["vit_tiny_patch16_224", "8"][len(rest):])[:2]
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        unchanged = make(folder, name, count=UPDATES, size=int(size), lr=3e-4)
        found = json.loads(subprocess.run([updates, folder], check=True, capture_output=True, text=True).stdout)
        runs = json.loads((folder / "runs.json").read_text())["runs"]
    print(f"{name}, batch {size}, {UPDATES} updates; torch {torch.__version__}, timm {timm.__version__}")
    for run, ours in zip(runs, found, strict=True):
        print(f"layer decay {run['layer_decay']}: losses differ by at most {off(ours, run['losses']):.1e} relative")
        print("  timm ", *(f"{loss:.5f}" for loss in run["losses"]))
        print("  ours ", *(f"{loss:.5f}" for loss in ours))
    print(f"timm's own groups, the last norm in the last block's: {off(unchanged, runs[1]['losses']):.1e} from these")


if __name__ == "__main__":
    main()
