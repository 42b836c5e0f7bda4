#!/usr/bin/env python3
"""The reference workloads in PyTorch and ONNX Runtime, one a process; run.py times them by turns
with ours.

`torch_workloads.py w1-train --peer compile --precision bf16` prints one JSON object with the keys
of `cargo bench --bench workloads`: workload, precision, batch, threads, peak_rss_mb, images_per_s,
ms_per_step.

  w1-train, w1-infer   ViT on 3x32x32: patch 4, width 192, depth 6, 3 heads, MLP 384, mean pooling,
                       10 classes; 1,806,154 parameters
  w2-train, w2-infer   ResNet-18 in its CIFAR form on 3x32x32, 10 classes; 11,173,962 parameters
  w3-infer             timm's vit_tiny_patch16_224, 1000 classes
  ti-tune, s-tune      fine-tuning of timm's vit_tiny_patch16_224, vit_small_patch16_224, 10 classes
  w3-export            writes w3 to --onnx FILE and times nothing
  cold                 imports, builds w3, decodes --image FILE, prints its top-5 and peak memory

A training step is forward, cross-entropy, backward and AdamW; of fine-tuning, with layer-wise decay of 0.75, weight
decay as timm groups it, and the gradient's norm clipped to 1, as vitrine does in every training. bf16 is autocast: weights stay f32.
--device cuda times a GPU to the end of its work; --matmul high lets it round f32 products to TF32, convolutions
included. int8 is ONNX Runtime's alone: w3-export --precision int8 quantises weights by channel, and activations are
quantised as they come.
"""

import argparse
import contextlib
import functools
import json
import sys
import time

W1_WIDTH, W1_HEADS, W1_MLP, W1_DEPTH = 192, 3, 384, 6
W3 = "vit_tiny_patch16_224"
TUNED = {"ti": W3, "s": "vit_small_patch16_224"}


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workload")
    parser.add_argument("--peer", choices=["eager", "compile", "onnx"], default="eager")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it; onnx and cold take cpu only")
    parser.add_argument("--matmul", choices=["highest", "high"], default="highest")
    parser.add_argument("--precision", choices=["f32", "bf16", "int8"], default="f32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--onnx", help="the file that w3-export writes and --peer onnx reads")
    parser.add_argument("--image", help="the picture of cold")
    return parser.parse_args()


def vit():
    """W1. Linear layers see patches as rows, so that no convolution is needed."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(W1_WIDTH, eps=1e-6)
            self.qkv = nn.Linear(W1_WIDTH, 3 * W1_WIDTH)
            self.projection = nn.Linear(W1_WIDTH, W1_WIDTH)
            self.norm2 = nn.LayerNorm(W1_WIDTH, eps=1e-6)
            self.fc1 = nn.Linear(W1_WIDTH, W1_MLP)
            self.fc2 = nn.Linear(W1_MLP, W1_WIDTH)

        def forward(self, x):
            batch, tokens, width = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, W1_HEADS, width // W1_HEADS)
            mixed = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
            x = x + self.projection(mixed.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))

    class Vit(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embedding = nn.Linear(3 * 4 * 4, W1_WIDTH)
            self.positions = nn.Parameter(torch.randn(1, 64, W1_WIDTH) * 0.02)
            self.blocks = nn.Sequential(*[Block() for _ in range(W1_DEPTH)])
            self.norm = nn.LayerNorm(W1_WIDTH, eps=1e-6)
            self.head = nn.Linear(W1_WIDTH, 10)

        def forward(self, images):
            patches = images.reshape(-1, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 64, 48)
            tokens = self.blocks(self.patch_embedding(patches) + self.positions)
            return self.head(self.norm(tokens).mean(1))

    return Vit()


def resnet():
    """W2."""
    from torch import nn
    from torch.nn import functional

    class Residual(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = functional.relu(self.norm1(self.conv1(x)))
            return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    width = 64
    layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for outputs, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        layers.append(Residual(width, outputs, stride))
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def vit_tiny():
    """W3, with random weights: they are as fast as any, and nothing is downloaded."""
    import timm

    return timm.create_model(W3, pretrained=False)


def tuned(name):
    """A model to fine-tune; its weights are random, too."""
    import timm

    return timm.create_model(TUNED[name], pretrained=False, num_classes=10)


def peak_rss_mb():
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def timed(args, step, wait=lambda: None):
    for _ in range(args.warmup):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    wait()
    seconds = (time.perf_counter() - start) / args.steps
    result = {
        "workload": args.workload,
        "device": args.device,
        "precision": args.precision,
        "batch": args.batch,
        "threads": args.threads,
        "peak_rss_mb": peak_rss_mb(),
        "images_per_s": args.batch / seconds,
        "ms_per_step": 1e3 * seconds,
    }
    print(json.dumps(result))


def in_torch(args):
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision(args.matmul)
    torch.backends.cudnn.allow_tf32 = args.matmul == "high"
    name, kind = args.workload.split("-")
    model, size, classes = {
        "w1": (vit, 32, 10),
        "w2": (resnet, 32, 10),
        "w3": (vit_tiny, 224, 1000),
        **{of: (functools.partial(tuned, of), 224, 10) for of in TUNED},
    }[name]
    model = model().to(args.device)
    images = torch.randn(args.batch, 3, size, size, device=args.device)
    if name == "w2":
        # The layout in which PyTorch's convolutions are fastest on a processor and on tensor cores.
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    model.train(kind != "infer")
    forward = torch.compile(model) if args.peer == "compile" else model

    def autocast():
        if args.precision == "bf16":
            return torch.autocast(torch.device(args.device).type, torch.bfloat16)
        return contextlib.nullcontext()

    def wait():
        if args.device != "cpu":
            torch.cuda.synchronize(args.device)

    def infer():
        with torch.inference_mode(), autocast():
            forward(images)

    if kind == "infer":
        return timed(args, infer, wait)
    labels = torch.randint(0, classes, (args.batch,), device=args.device)
    optimizer = torch.optim.AdamW(layer_groups(model) if kind == "tune" else model.parameters(), 1e-3)

    def train():
        with autocast():
            loss = torch.nn.functional.cross_entropy(forward(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        if kind == "tune":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    timed(args, train, wait)


def layer_groups(model):
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.75)
    return [{**group, "lr": 1e-3 * group["lr_scale"]} for group in groups]


def export(args):
    import torch

    whole = args.onnx if args.precision == "f32" else args.onnx + ".f32"
    torch.onnx.export(
        vit_tiny().eval(),
        torch.randn(1, 3, 224, 224),
        whole,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}},
        # The older exporter, which needs no package beyond onnx.
        dynamo=False,
    )
    if args.precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(whole, args.onnx, per_channel=True, weight_type=QuantType.QInt8)


def in_onnx_runtime(args):
    """Without PyTorch in the process, so that its memory is not counted."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    images = numpy.random.default_rng(0).standard_normal((args.batch, 3, 224, 224), numpy.float32)
    timed(args, lambda: session.run(None, {"images": images}))


def cold(args):
    import timm
    import torch
    from PIL import Image

    torch.set_num_threads(args.threads)
    model = vit_tiny().eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    with torch.inference_mode():
        images = transform(Image.open(args.image).convert("RGB"))[None]
        probabilities, classes = model(images).softmax(-1).topk(5)
    top = list(zip(classes[0].tolist(), probabilities[0].tolist()))
    print(json.dumps({"top": top, "peak_rss_mb": peak_rss_mb()}))


def main():
    args = parse()
    if args.precision == "int8" and args.peer != "onnx" and args.workload != "w3-export":
        sys.exit("--precision int8: --peer onnx has it alone")
    if args.workload == "cold":
        cold(args)
    elif args.workload == "w3-export":
        export(args)
    elif args.peer == "onnx":
        if args.workload != "w3-infer":
            sys.exit(f"{args.workload}: --peer onnx runs w3-infer only")
        in_onnx_runtime(args)
    elif args.workload in ("w1-train", "w1-infer", "w2-train", "w2-infer", "w3-infer", "ti-tune", "s-tune"):
        in_torch(args)
    else:
        sys.exit(f"{args.workload}: no such workload; --help lists them")


if __name__ == "__main__":
    main()
