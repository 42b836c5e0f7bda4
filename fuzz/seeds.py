#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: one small file of each kind, in fuzz/seeds/TARGET/.

    pip install pillow pyarrow numpy
    python3 fuzz/seeds.py [VITRINE]

VITRINE is the program, by whose training of one update the seeds of `weights` and `state` are made; without it these
stay as they are.
"""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEEDS = Path(__file__).parent / "seeds"
# Between the files of a seed that holds several.
BETWEEN = b"\n=====\n"
PIXELS = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3) * 2


def save(target, name, content):
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pictures():
    rgb = Image.fromarray(PIXELS)
    grey, palette, alpha = rgb.convert("L"), rgb.convert("P"), rgb.convert("RGBA")
    cmyk, floats = rgb.convert("CMYK"), Image.fromarray(PIXELS[:, :, 0].astype(np.float32) / 255)
    files = {
        "rgb.png": encoded(rgb, "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "grey16.png": encoded(Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257), "PNG"),
        "icc.png": encoded(rgb, "PNG", icc_profile=bytes(64)),
        "444.jpg": encoded(rgb, "JPEG", subsampling=0),
        "420.jpg": encoded(rgb, "JPEG", subsampling=2),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "grey.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(cmyk, "JPEG"),
        "still.gif": encoded(palette, "GIF"),
        "animated.gif": encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
        "lossy.webp": encoded(rgb, "WEBP"),
        "lossless.webp": encoded(alpha, "WEBP", lossless=True),
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "rgb.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "rgb.tga": encoded(rgb, "TGA"),
        "rgb.ico": encoded(alpha, "ICO", sizes=[(5, 6)]),
        "rgb.dds": encoded(alpha, "DDS"),
        "rgb.ppm": encoded(rgb, "PPM"),
        "floats.tif": encoded(floats, "TIFF"),
        "cmyk.tif": encoded(cmyk, "TIFF"),
    }
    for compression in ["raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"]:
        image = rgb.convert("1") if compression == "group4" else rgb
        files[f"{compression}.tif"] = encoded(image, "TIFF", compression=compression)
    # QOI: header, one run of each pixel kind, end.
    files["rgb.qoi"] = b"qoif" + struct.pack(">IIBB", 2, 2, 3, 0) + b"\xfe\x10\x20\x30\xc2" + bytes(7) + b"\x01"
    files["flat.hdr"] = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n" + b"\x80\x40\x20\x81" * 4
    files["flat.ff"] = b"farbfeld" + struct.pack(">II", 2, 2) + b"\x80\x00\x40\x00\x20\x00\xff\xff" * 4
    for name, content in files.items():
        save("picture", name, content)
    return files


def containers(files):
    names = ["cat/a.png", "cat/b.jpg", "dog/a.png", "dog/b.jpg"]
    contents = [files["rgb.png"], files["420.jpg"], files["grey16.png"], files["grey.jpg"]]

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in zip(names, contents):
            info = tarfile.TarInfo(f"pets/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    save("tar", "pets.tar", out.getvalue())
    save("tar_gz", "pets.tar.gz", gzip.compress(out.getvalue(), mtime=0))

    for method in [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, content in zip(names, contents):
                archive.writestr(zipfile.ZipInfo(name), content, method)
        save("zip", f"pets-{method}.zip", out.getvalue())

    image = pa.array(
        [{"bytes": content, "path": name} for name, content in zip(names, contents)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    labels = {"numbers": pa.array([0, 0, 1, 1], pa.int64()), "words": pa.array(["cat", "cat", "dog", "dog"])}
    for kind, label in labels.items():
        for compression in ["none", "snappy", "zstd", "gzip"]:
            out = io.BytesIO()
            pq.write_table(pa.table({"image": image, "label": label}), out, compression=compression)
            save("parquet", f"{kind}-{compression}.parquet", out.getvalue())


def plain_arrays():
    pictures = struct.pack(">IIII", 0x803, 4, 3, 3) + bytes(range(36))
    labels = struct.pack(">II", 0x801, 4) + bytes([0, 1, 0, 1])
    save("idx", "mnist", pictures + BETWEEN + labels)
    save("cifar", "ten", b"".join(bytes([label]) + bytes(3072) for label in [0, 3, 9, 9]))
    save("cifar", "hundred", b"".join(bytes([1, label]) + bytes(3072) for label in [0, 30, 99, 99]))


def split_lists():
    lists = ["cat\tcat/a.ppm\ndog\tdog/\u00e9.ppm\n", "cat\tcat/b.ppm\n", "dog\tdog/a.ppm\nowl\towl/a\\nb.ppm\n"]
    save("lists", "three", BETWEEN.join(text.encode() for text in lists))


def recipes():
    root = Path(__file__).parent.parent
    for path in sorted(root.glob("assets/recipes/*.toml")):
        save("recipe", path.name, path.read_bytes())


def foreign():
    fixtures = Path(__file__).parent.parent / "tests/fixtures/foreign"
    files = ["config.json", "preprocessor_config.json", "model.safetensors"]
    for name in ["timm-vit_wee_patch16_reg1_gap_256", "transformers-ViTForImageClassification",
                 "transformers-Dinov2WithRegistersForImageClassification", "torchvision-vit"]:
        parts = [fixtures / name / file for file in files]
        save("foreign", name, BETWEEN.join(part.read_bytes() if part.exists() else b"" for part in parts))


def trained(program):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        small = ["model.embed_dim=8", "model.mlp_dim=8", "model.depth=1", "model.num_heads=1", "data.fraction=0.01"]
        command = [program, "train", "--steps", "1", "--device", "cpu", "--out", str(run)]
        subprocess.run(command + [part for key in small for part in ("--set", key)], check=True)
        save("weights", "vit.safetensors", (run / "weights/last.safetensors").read_bytes())
        save("state", "vit.safetensors", (run / "checkpoint/state.safetensors").read_bytes())
        table = (run / "results.csv").read_bytes()
        save("results", "results.csv", table)
        figures = json.loads((run / "metrics.json").read_bytes())["val"]
        # Two classes of the ten: a short seed is mutated sooner.
        for key in ["per_class", "most_confused", "mistakes"]:
            figures[key] = figures[key][:2]
        figures["confusion"] = [row[:2] for row in figures["confusion"][:2]]
        save("plot", "run", table + BETWEEN + json.dumps({"val": figures}).encode())


if __name__ == "__main__":
    containers(pictures())
    plain_arrays()
    split_lists()
    recipes()
    foreign()
    if len(sys.argv) > 1:
        trained(sys.argv[1])
