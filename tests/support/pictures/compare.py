"""Compares what vitrine decodes with what Pillow shows, for many kinds of pictures. Run by hand:

    cargo build --release --example decode
    python tests/support/pictures/compare.py target/release/examples/decode [WORD…] [--wrong] [--keep FOLDER]
    python tests/support/pictures/compare.py - --fixtures tests/fixtures/pictures

Needs Pillow and NumPy; kinds that need `tifffile` with `imagecodecs` are left out without them. WORDs choose the kinds
whose names contain one. One line a kind: `same` (no pixel differs by more than the kind's tolerance), `refused` with the
reason, `DIFFERENT`, or `REFUSED` for what Pillow shows and vitrine is meant to read.

The reference is what Pillow makes of the same file, turned by EXIF and laid over white; where Pillow cannot read it
(written `*`), what the file was made of."""

import argparse
import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

import jpeg_writer as j
import tiff_writer as t

Image.MAX_IMAGE_PIXELS = None


def scene(width, height):
    """Four quarters of strong colours over a gradient: what is out of place, turned or of other colours shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    colours = np.array([[[210, 40, 40], [40, 180, 60]], [[50, 60, 210], [220, 200, 70]]], float)
    values = colours[(y * 2 // height).clip(0, 1), (x * 2 // width).clip(0, 1)]
    return Image.fromarray((values + ((x + y) / (width + height) * 60 - 30)[..., None]).clip(0, 255).astype(np.uint8))


EVEN, ODD = scene(64, 48), scene(65, 43)
KINDS = {}


def kind(name, data, reference=None, tolerance=2, refused=False, mean=None):
    """`refused`: vitrine refuses it, by name. `mean`: the largest mean difference (`tolerance` is that of a pixel)."""
    assert name not in KINDS, name
    KINDS[name] = (data, reference, tolerance, refused, mean)


def saved(picture, format, **how):
    out = io.BytesIO()
    picture.copy().save(out, format, **how)  # A picture keeps the settings of its last file.
    return out.getvalue()


def over_white(picture):
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16B", "I"):
        deep = np.asarray(picture).astype(float)
        return np.repeat(np.rint(deep / 257)[..., None], 3, -1).astype(np.uint8)
    if picture.mode in ("P", "PA", "LA", "La", "RGBa", "RGBA") or "transparency" in picture.info:
        # Pillow's own compositing truncates.
        rgba = np.asarray(picture.convert("RGBA")).astype(float)
        alpha = rgba[..., 3:] / 255
        return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.asarray(picture.convert("RGB"))


def jpegs():
    ways = {"444": [(1, 1)] * 3, "422": [(2, 1), (1, 1), (1, 1)], "420": [(2, 2), (1, 1), (1, 1)],
            "411": [(4, 1), (1, 1), (1, 1)], "440": [(1, 2), (1, 1), (1, 1)], "410": [(4, 2), (1, 1), (1, 1)],
            "441": [(1, 4), (1, 1), (1, 1)], "422-of-2x2": [(2, 2), (1, 2), (1, 2)], "444-of-2x2": [(2, 2)] * 3,
            "420-blue-full": [(2, 2), (2, 2), (1, 1)], "luma-halved": [(1, 1), (2, 2), (2, 2)],
            "luma-2x1-chroma-1x2": [(2, 1), (1, 2), (1, 2)], "3x1": [(3, 1), (1, 1), (1, 1)], "1x3": [(1, 3), (1, 1), (1, 1)]}
    each = [([0], 0, 63), ([1], 0, 63), ([2], 0, 63)]
    pairs = [([0], 0, 63), ([1, 2], 0, 63)]
    dc_apart = [([0], 0, 0), ([1], 0, 0), ([2], 0, 0), ([0], 1, 63), ([1], 1, 63), ([2], 1, 63)]
    dc_together = [([0, 1, 2], 0, 0), ([0], 1, 5), ([2], 1, 63), ([1], 1, 63), ([0], 6, 63)]
    dc_refined = [([0, 1, 2], 0, 0, 0, 1), ([0], 1, 63), ([1], 1, 63), ([0, 1, 2], 0, 0, 1, 0), ([2], 1, 63)]
    for shape, size in (("", ODD), ("-small", scene(9, 17)), ("-wide", scene(150, 20)), ("-even", EVEN)):
        planes = j.ycc(size)
        for way, sampling in ways.items():
            def add(name, sampling=sampling, **how):
                # Filters that double the chroma differ between decoders, most at sharp edges of colour.
                smooth = {"444": 4, "444-of-2x2": 4}.get(way, 90)
                # Twelve blocks are more than may come together: Pillow refuses these.
                right = size if way == "444-of-2x2" else None
                kind(f"jpeg-{way}-{name}{shape}", j.encode(planes, sampling, before=j.JFIF, **how), right, tolerance=smooth, mean=3.5)
            add("baseline")
            add("baseline-apart", scans=each)
            add("progressive", progressive=True, scans=dc_together)
            add("progressive-apart", progressive=True, scans=dc_apart)
            if way in ("444", "420", "422", "440", "411"):
                add("baseline-luma-then-chroma", scans=pairs)
                add("baseline-luma-last", scans=[each[1], each[2], each[0]], huffman="late")
                add("baseline-restarts", restart=1)
                add("baseline-restarts-3", restart=3)
                add("baseline-apart-restarts", scans=each, restart=2)
                add("progressive-refined", progressive=True, scans=dc_refined)
                add("progressive-restarts", progressive=True, scans=dc_apart, restart=4)
                add("progressive-together-restarts", progressive=True, scans=dc_together, restart=1)
                add("extended", sof=0xC1)
                add("wide-quantisation", wide_quant=True)
                add("tables-none", huffman="none")
                add("late-tables", scans=each, huffman="late")
    p, rgb = j.ycc(EVEN), [np.asarray(EVEN)[..., i] for i in range(3)]
    grey = np.asarray(EVEN.convert("L"))
    for q in (10, 50, 95, 100):
        for subsampling in (0, 1, 2):
            for progressive in (False, True):
                kind(f"jpeg-pillow-q{q}-s{subsampling}{'-progressive' * progressive}",
                     saved(ODD, "JPEG", quality=q, subsampling=subsampling, progressive=progressive), tolerance=90, mean=3)
    kind("jpeg-pillow-restarts", saved(ODD, "JPEG", restart_marker_rows=1), tolerance=90, mean=3)
    kind("jpeg-grey", saved(EVEN.convert("L"), "JPEG"))
    kind("jpeg-grey-progressive", saved(EVEN.convert("L"), "JPEG", progressive=True))
    kind("jpeg-grey-adobe", j.encode([grey], before=j.adobe(0)))
    kind("jpeg-grey-2x2", j.encode([grey], [(2, 2)], before=j.JFIF))
    kind("jpeg-grey-odd-2x2", j.encode([np.asarray(ODD.convert("L"))], [(2, 2)]))
    kind("jpeg-grey-4x1-restarts", j.encode([np.asarray(ODD.convert("L"))], [(4, 1)], restart=3))
    kind("jpeg-two-components", j.encode(p[:2]), EVEN, refused=True)
    kind("jpeg-rgb-adobe", j.encode(rgb, before=j.adobe(0)), tolerance=4)
    kind("jpeg-rgb-ids", j.encode(rgb, ids=[82, 71, 66]), tolerance=4)
    kind("jpeg-rgb-ids-in-jfif", j.encode(p, ids=[82, 71, 66], before=j.JFIF), tolerance=4)
    kind("jpeg-ycc-adobe-1", j.encode(p, before=j.adobe(1)), tolerance=4)
    kind("jpeg-ycc-adobe-0-in-jfif", j.encode(p, before=j.JFIF + j.adobe(0)), tolerance=4)
    kind("jpeg-ycc-ids-0-1-2", j.encode(p, ids=[0, 1, 2]), tolerance=4)
    kind("jpeg-ycc-ids-1-34-35", j.encode(p, ids=[1, 34, 35]), tolerance=4)
    kind("jpeg-ycc-no-marker", j.encode(p), tolerance=4)
    kind("jpeg-rgb-adobe-apart", j.encode(rgb, before=j.adobe(0), scans=each), tolerance=4)
    kind("jpeg-rgb-adobe-progressive", j.encode(rgb, before=j.adobe(0), progressive=True, scans=dc_apart), tolerance=4)
    ink = np.asarray(EVEN.convert("CMYK")).copy()
    ink[..., 3] = 40
    inks = [255.0 - ink[..., i] for i in range(4)]
    ycck = j.ycc(ink[..., :3].astype(float)) + [inks[3]]
    four = [(2, 2), (1, 1), (1, 1), (2, 2)]
    ones = [([i], 0, 63) for i in range(4)]
    kind("jpeg-cmyk-pillow", saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=95), tolerance=4)
    for name, planes, before in (("cmyk-adobe", inks, j.adobe(0)), ("ycck-adobe", ycck, j.adobe(2)),
                                 ("cmyk-no-marker", [255 - i for i in inks], b""), ("cmyk-jfif", [255 - i for i in inks], j.JFIF)):
        kind(f"jpeg-{name}", j.encode(planes, before=before), tolerance=5)
        kind(f"jpeg-{name}-subsampled", j.encode(planes, four, before=before), tolerance=120, mean=6)
        kind(f"jpeg-{name}-apart", j.encode(planes, before=before, scans=ones), tolerance=5)
        kind(f"jpeg-{name}-subsampled-apart", j.encode(planes, four, before=before, scans=ones), tolerance=120, mean=6)
        kind(f"jpeg-{name}-progressive", j.encode(planes, before=before, progressive=True,
             scans=[([0, 1, 2, 3], 0, 0)] + [([i], 1, 63) for i in range(4)]), tolerance=5)
    kind("jpeg-12-bit", j.encode([x * 16 for x in p], precision=12, quant=16, before=j.JFIF), EVEN, refused=True)
    kind("jpeg-12-bit-grey", j.encode([grey * 16.0], precision=12, quant=16), EVEN, refused=True)
    kind("jpeg-lossless", j.lossless(rgb), EVEN)
    kind("jpeg-lossless-grey", j.lossless([grey]), EVEN.convert("L"))
    kind("jpeg-lossless-grey-16", j.lossless([grey.astype(int) * 257], precision=16), EVEN.convert("L"))
    kind("jpeg-arithmetic", j.encode(p, sof=0xC9), EVEN, refused=True)
    kind("jpeg-hierarchical", j.encode(p, sof=0xC5), EVEN, refused=True)
    kind("jpeg-lines-later", j.encode(p, lines_later=True), EVEN, refused=True)
    # Thumbnails, profiles, comments and more around the picture.
    plain = saved(EVEN, "JPEG", quality=90)
    thumbnail = saved(EVEN.resize((16, 12)).convert("L"), "JPEG")
    icc = saved(EVEN, "JPEG", quality=90, icc_profile=b"\xff\xd9" * 40000)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        kind(f"jpeg-exif-{turn}", saved(ODD, "JPEG", exif=exif, quality=90, subsampling=0), tolerance=4)
        kind(f"jpeg-apart-exif-{turn}", j.encode(j.ycc(ODD), scans=each, before=j.segment(0xE1, exif.tobytes())), tolerance=4)
    order = b"MM\0\x2a\0\0\0\x08\0\x01"
    turn_as = {"long": b"\x01\x12\0\x04\0\0\0\x01\0\0\0\x06", "big-endian": b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
               "byte": b"\x01\x12\0\x01\0\0\0\x01\x06\0\0\0"}
    for name, entry in turn_as.items():
        for apart in (False, True):
            data = j.encode(j.ycc(ODD), scans=each if apart else None, before=j.segment(0xE1, b"Exif\0\0" + order + entry + bytes(4)))
            kind(f"jpeg-exif-as-{name}{'-apart' * apart}", data, tolerance=4)
    two = Image.Exif()
    two[274] = 3
    kind("jpeg-exif-behind-xmp", j.encode(j.ycc(ODD), before=j.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + j.segment(0xE1, two.tobytes())), tolerance=4)
    kind("jpeg-exif-behind-xmp-apart", j.encode(j.ycc(ODD), scans=each, before=j.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + j.segment(0xE1, two.tobytes())), tolerance=4)
    exif = Image.Exif()
    exif[274] = 9
    kind("jpeg-exif-9", saved(EVEN, "JPEG", exif=exif), tolerance=90, mean=3)
    kind("jpeg-exif-thumbnail", plain[:2] + j.segment(0xE1, b"Exif\0\0" + b"\xff\xd8" * 20 + thumbnail) + plain[2:], tolerance=90, mean=3)
    kind("jpeg-icc-over-segments", icc, tolerance=90, mean=3)
    kind("jpeg-trailing-garbage", plain + b"\0\xff\xd8garbage" * 99, tolerance=90, mean=3)
    kind("jpeg-then-another", plain + saved(EVEN.resize((30, 20)), "JPEG"), tolerance=90, mean=3)
    kind("jpeg-fill-bytes", plain[:2] + b"\xff\xff\xff" + plain[2:], tolerance=90, mean=3)
    kind("jpeg-garbage-between-segments", plain[:20] + b"\0\0" + plain[20:], tolerance=90, mean=3)
    kind("jpeg-cut", plain[:-200], EVEN, refused=True)
    kind("jpeg-mpo", saved(EVEN, "MPO", save_all=True, append_images=[EVEN.transpose(Image.Transpose.ROTATE_180)]), tolerance=90, mean=3)
    kind("jpeg-avi-frame", j.encode(p, [(2, 1), (1, 1), (1, 1)], huffman="none",
         before=j.segment(0xE0, b"AVI1" + bytes(10))), tolerance=90, mean=3)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, rows, *, more=(), interlace=0):
    """`rows`: the bytes of each row, without filters."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
            + b"".join(chunk(*one) for one in more) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
            + chunk(b"IEND", b""))


def adam7(array, depth):
    rows = []
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = array[y0::dy, x0::dx]
        if part.size:
            rows += [t.packed(row[None], depth, ">") for row in part]
    return rows


def pngs():
    rgb, grey = np.asarray(ODD), np.asarray(ODD.convert("L"))
    height, width = grey.shape
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    rgba = np.dstack([rgb, alpha])
    few = ODD.quantize(4)
    indices, palette = np.asarray(few), bytes(few.getpalette()[:12])
    for depth in (1, 2, 4, 8, 16):
        scaled = (grey >> (8 - depth) if depth < 8 else grey.astype(np.uint16) * 257 - 5 * (grey > 9) if depth > 8 else grey)[..., None]
        scaled = scaled.astype(np.uint16 if depth > 8 else np.uint8)
        as_eight = {16: lambda v: np.rint(v / 257), 8: lambda v: v}.get(depth, lambda v: v * (255 // ((1 << depth) - 1)))
        right = Image.fromarray(as_eight(scaled[..., 0]).astype(np.uint8))
        key = int(scaled[5, 5, 0])
        masked = np.where(scaled[..., 0] == key, 255, np.asarray(right)).astype(np.uint8)
        for interlace in (0, 1):
            rows = adam7(scaled, depth) if interlace else [t.packed(row[None], depth, ">") for row in scaled]
            more = "-interlaced" * interlace
            kind(f"png-grey-{depth}{more}", png(width, height, depth, 0, rows, interlace=interlace), right, 0)
            kind(f"png-grey-{depth}-trns{more}", png(width, height, depth, 0, rows, interlace=interlace,
                 more=[(b"tRNS", struct.pack(">H", key))]), Image.fromarray(masked), 1)
        if depth <= 8:
            part = indices & ((1 << depth) - 1)
            for interlace in (0, 1):
                rows = adam7(part[..., None], depth) if interlace else [t.packed(row[None, :, None], depth, ">") for row in part]
                more = "-interlaced" * interlace
                kind(f"png-palette-{depth}{more}", png(width, height, depth, 3, rows, interlace=interlace, more=[(b"PLTE", palette)]), tolerance=0)
                kind(f"png-palette-{depth}-trns{more}", png(width, height, depth, 3, rows, interlace=interlace,
                     more=[(b"PLTE", palette), (b"tRNS", bytes([0, 128]))]), tolerance=1)
    for name, colour, array in (("rgb", 2, rgb), ("grey-alpha", 4, np.dstack([grey, alpha])), ("rgba", 6, rgba)):
        for depth in (8, 16):
            deep = array.astype(np.uint16) * 257 if depth == 16 else array
            for interlace in (0, 1):
                rows = adam7(deep, depth) if interlace else [t.packed(row[None], depth, ">") for row in deep]
                right = {"rgb": ODD, "grey-alpha": Image.fromarray(np.dstack([grey, alpha]), "LA"), "rgba": Image.fromarray(rgba)}[name]
                kind(f"png-{name}-{depth}{'-interlaced' * interlace}", png(width, height, depth, colour, rows, interlace=interlace), right, 1)
    kind("png-rgb-8-trns", png(width, height, 8, 2, [row.tobytes() for row in rgb],
         more=[(b"tRNS", struct.pack(">HHH", *map(int, rgb[5, 5])))]), tolerance=1)
    kind("png-palette-short", png(width, height, 8, 3, [row.tobytes() for row in indices * 0 + 1], more=[(b"PLTE", palette[:6])]), tolerance=0)
    kind("png-gamma", png(width, height, 8, 2, [row.tobytes() for row in rgb], more=[(b"gAMA", struct.pack(">I", 100000))]), tolerance=0)
    kind("png-icc", saved(ODD, "PNG", icc_profile=bytes(5000)), tolerance=0)
    for turn in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[274] = turn
        kind(f"png-exif-{turn}", saved(ODD, "PNG", exif=exif), tolerance=0)
    exif = Image.Exif()
    exif[274] = 6
    late = saved(ODD, "PNG")
    turned = ODD.transpose(Image.Transpose.ROTATE_270)
    kind("png-exif-behind-the-pixels", late[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + late[-12:], turned, 0)
    kind("png-exif-with-jpeg-name", late[:33] + chunk(b"eXIf", b"Exif\0\0" + exif.tobytes()[6:]) + late[33:], tolerance=0)
    frames = [ODD, ODD.transpose(Image.Transpose.ROTATE_180)]
    kind("png-animated", saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), ODD, 0)
    kind("png-animated-poster", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True), ODD, 0)
    kind("png-trailing-garbage", saved(ODD, "PNG") + b"garbage" * 99, tolerance=0)
    kind("png-cut", saved(scene(200, 200), "PNG")[:-400], ODD, refused=True)


def gif(width, height, blocks, *, background=0, palette=None):
    table = b"" if palette is None else palette.ljust(768, b"\0")
    return (b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7 if palette else 0x70, background, 0) + table + blocks + b";")


def gif_frame(indices, left=0, top=0, *, palette=None, transparent=None, disposal=0, interlaced=False):
    """LZW without compression: a clear code often enough that all codes stay at nine bits."""
    height, width = indices.shape
    order = [y for s, d in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(s, height, d)] if interlaced else range(height)
    values = np.concatenate([indices[y] for y in order]).tolist()
    stream = [code for i, value in enumerate(values) for code in ([256, value] if i % 200 == 0 else [value])] + [257]
    bits = "".join(format(code, "09b")[::-1] for code in stream)
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[i:i + 8][::-1], 2) for i in range(0, len(bits), 8))
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, disposal << 2 | (transparent is not None), 10, transparent or 0, 0)
    table = b"" if palette is None else palette.ljust(768, b"\0")
    flags = (0x87 if palette is not None else 0) | 0x40 * interlaced
    blocks = b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255))
    return control + b"," + struct.pack("<HHHHB", left, top, width, height, flags) + table + b"\x08" + blocks + b"\0"


def gifs():
    few = ODD.quantize(16)
    indices, palette = np.asarray(few), bytes(few.getpalette())
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    right = Image.fromarray(colours[indices])
    height, width = indices.shape
    kind("gif", gif(width, height, gif_frame(indices), palette=palette), right, 0)
    kind("gif-87a", gif(width, height, gif_frame(indices), palette=palette).replace(b"GIF89a", b"GIF87a"), right, 0)
    kind("gif-interlaced", gif(width, height, gif_frame(indices, interlaced=True), palette=palette), right, 0)
    kind("gif-local-palette", gif(width, height, gif_frame(indices, palette=palette)), right, 0)
    masked = colours[indices].copy()
    masked[indices == 3] = 255
    kind("gif-transparent", gif(width, height, gif_frame(indices, transparent=3), palette=palette), Image.fromarray(masked), 0)
    for name, transparent in (("", None), ("-transparent", 3)):
        placed = np.full((height + 20, width + 20, 3), 255, np.uint8)
        placed[7:7 + height, 11:11 + width] = masked if transparent else colours[indices]
        kind(f"gif-offset{name}", gif(width + 20, height + 20, gif_frame(indices, 11, 7, transparent=transparent), palette=palette), Image.fromarray(placed), 0)
    kind("gif-frame-past-the-edge", gif(width - 10, height - 10, gif_frame(indices), palette=palette), right.crop((0, 0, width - 10, height - 10)), 0)
    kind("gif-frame-past-the-edge-offset", gif(width, height, gif_frame(indices, 10, 10), palette=palette),
         Image.fromarray(np.pad(colours[indices], ((10, 0), (10, 0), (0, 0)), constant_values=255)[:height, :width]), 0)
    for disposal in (0, 1, 2, 3):
        second = gif_frame(indices[:9, :9], 5, 5, disposal=disposal)
        kind(f"gif-animated-disposal-{disposal}", gif(width, height, gif_frame(indices, disposal=disposal) + second, palette=palette), right, 0)
    kind("gif-pillow-animated", saved(ODD, "GIF", save_all=True, append_images=[EVEN]), tolerance=0)
    kind("gif-2-colours", saved(ODD.convert("1"), "GIF"), tolerance=0)
    kind("gif-trailing-garbage", gif(width, height, gif_frame(indices), palette=palette) + b"garbage", right, 0)
    kind("gif-no-palette", gif(width, height, gif_frame(indices)), right, refused=True)
    kind("gif-no-trailer", gif(width, height, gif_frame(indices), palette=palette)[:-1], right, 0)
    kind("gif-cut", gif(width, height, gif_frame(indices), palette=palette)[:-500], right, refused=True)


def webps():
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, ODD.width).astype(np.uint8), (ODD.height, 1)))
    rgba = ODD.copy()
    rgba.putalpha(alpha)
    for name, picture in (("rgb", ODD), ("rgba", rgba), ("grey", ODD.convert("L").convert("RGB"))):
        kind(f"webp-lossless-{name}", saved(picture, "WEBP", lossless=True, exact=True), tolerance=1)
        for quality in (5, 80, 100):
            kind(f"webp-lossy-{name}-{quality}", saved(picture, "WEBP", quality=quality), tolerance=24, mean=2)
    kind("webp-near-lossless", saved(ODD, "WEBP", lossless=True, quality=20), tolerance=1)
    kind("webp-few-colours", saved(ODD.quantize(4).convert("RGB"), "WEBP", lossless=True), tolerance=1)
    kind("webp-icc", saved(ODD, "WEBP", lossless=True, icc_profile=bytes(500)), tolerance=1)
    for turn in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[274] = turn
        kind(f"webp-exif-{turn}", saved(ODD, "WEBP", lossless=True, exif=exif), tolerance=1)
    exif[274] = 6
    plain = exif.tobytes()[6:]
    for name, data in (("plain", plain), ("with-jpeg-name", b"Exif\0\0" + plain)):
        inner = saved(ODD, "WEBP", lossless=True)[12:]
        body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + b"".join(struct.pack("<I", v - 1)[:3] for v in ODD.size)
        body += inner + b"EXIF" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        kind(f"webp-exif-{name}", b"RIFF" + struct.pack("<I", len(body)) + body, tolerance=1)
    turned = ODD.transpose(Image.Transpose.ROTATE_180)
    for name, how in (("lossless", {"lossless": True}), ("lossy", {"quality": 90})):
        kind(f"webp-animated-{name}", saved(ODD, "WEBP", save_all=True, append_images=[turned], duration=100, **how), tolerance=24, mean=2)
        kind(f"webp-animated-alpha-{name}", saved(rgba, "WEBP", save_all=True, append_images=[turned], duration=100, **how), tolerance=24, mean=2)
        kind(f"webp-animated-background-{name}", saved(rgba, "WEBP", save_all=True, append_images=[turned], duration=100,
             background=(255, 0, 0, 255), **how), tolerance=24, mean=2)
    # A frame that does not fill the canvas: with alpha the rest is transparent, without it is black.
    for flags, pictures in ((2, [("", ODD)]), (18, [("", ODD), ("-rgba", rgba)])):
        for name, picture in pictures:
            inner = saved(picture, "WEBP", lossless=True, exact=True)[12:]
            frame = b"".join(struct.pack("<I", v)[:3] for v in (10 // 2, 6 // 2, ODD.width - 1, ODD.height - 1, 100)) + b"\0" + inner
            canvas = (100, 80)
            body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + b"".join(struct.pack("<I", v - 1)[:3] for v in canvas)
            body += b"ANIM" + struct.pack("<IIH", 6, 0xFF0000FF, 0) + b"ANMF" + struct.pack("<I", len(frame)) + frame + b"\0" * (len(frame) % 2)
            kind(f"webp-animated-offset{name}-{flags}", b"RIFF" + struct.pack("<I", len(body)) + body, tolerance=1)
    kind("webp-cut", saved(ODD, "WEBP", lossless=True)[:-100], ODD, refused=True)


def bmp(header, palette, pixels, *, size=None):
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def bmp_info(width, height, bits, compression=0, *, colours=0, masks=(), version=40):
    head = struct.pack("<IiiHHIIiiII", version, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
    head += b"".join(struct.pack("<I", mask) for mask in masks)
    return head.ljust(version, b"\0") if version > 40 else head


def rle(indices, four=False):
    """Runs and, in every third row, absolute parts and deltas none."""
    out = bytearray()
    for number, row in enumerate(indices[::-1].tolist()):
        if number % 3 == 2:
            for at in range(0, len(row), 60):
                part = row[at:at + 60]
                if len(part) < 3:
                    out += b"".join(bytes([1, v << 4 if four else v]) for v in part)
                    continue
                data = bytes((a << 4) | b for a, b in zip(part[::2], part[1::2] + [0])) if four else bytes(part)
                out += bytes([0, len(part)]) + data + b"\0" * (len(data) % 2)
        else:
            at = 0
            while at < len(row):
                run = 1
                while at + run < len(row) and run < 255 and row[at + run] == row[at]:
                    run += 1
                out += bytes([run, row[at] << 4 | row[at] if four else row[at]])
                at += run
        out += b"\0\0"
    return bytes(out + b"\0\1")


def bmps():
    rgb = np.asarray(ODD)
    height, width = rgb.shape[:2]

    def rows(array, bits):
        data = [t.packed(row[None], bits, "<") for row in array]
        return [row + b"\0" * (-len(row) % 4) for row in data]

    few = ODD.quantize(16)
    indices, colours = np.asarray(few), np.array(few.getpalette()[:48]).reshape(-1, 3)
    table = b"".join(bytes([b, g, r, 0]) for r, g, b in colours)
    right = Image.fromarray(colours[indices].astype(np.uint8))
    two = Image.fromarray(colours[indices % 2].astype(np.uint8))
    four = Image.fromarray(colours[indices % 4].astype(np.uint8))
    kind("bmp-1", bmp(bmp_info(width, height, 1, colours=2), table[:8], b"".join(rows((indices % 2)[::-1, :, None], 1))), two, 0)
    kind("bmp-2", bmp(bmp_info(width, height, 2, colours=4), table[:16], b"".join(rows((indices % 4)[::-1, :, None], 2))), four, 0)
    kind("bmp-4", bmp(bmp_info(width, height, 4, colours=16), table, b"".join(rows(indices[::-1, :, None], 4))), right, 0)
    kind("bmp-8", bmp(bmp_info(width, height, 8, colours=16), table, b"".join(rows(indices[::-1, :, None], 8))), right, 0)
    kind("bmp-8-top-down", bmp(bmp_info(width, -height, 8, colours=16), table, b"".join(rows(indices[:, :, None], 8))), right, 0)
    kind("bmp-8-256-colours", bmp(bmp_info(width, height, 8), table.ljust(1024, b"\0"), b"".join(rows(indices[::-1, :, None], 8))), right, 0)
    kind("bmp-rle8", bmp(bmp_info(width, height, 8, 1, colours=16), table, rle(indices)), right, 0)
    kind("bmp-rle4", bmp(bmp_info(width, height, 4, 2, colours=16), table, rle(indices, True)), right, 0)
    core = struct.pack("<IHHHH", 12, width, height, 1, 8)
    kind("bmp-os2-8", bmp(core, b"".join(bytes([b, g, r]) for r, g, b in colours).ljust(768, b"\0"), b"".join(rows(indices[::-1, :, None], 8))), right, 0)
    kind("bmp-os2-24", bmp(struct.pack("<IHHHH", 12, width, height, 1, 24), b"", b"".join(rows(rgb[::-1, :, ::-1], 8))), ODD, 0)
    kind("bmp-24", bmp(bmp_info(width, height, 24), b"", b"".join(rows(rgb[::-1, :, ::-1], 8))), ODD, 0)
    kind("bmp-24-top-down", bmp(bmp_info(width, -height, 24), b"", b"".join(rows(rgb[:, :, ::-1], 8))), ODD, 0)
    bgrx = np.dstack([rgb[..., ::-1], np.zeros_like(rgb[..., 0])])
    kind("bmp-32", bmp(bmp_info(width, height, 32), b"", b"".join(rows(bgrx[::-1], 8))), ODD, 0)
    kind("bmp-32-unused-not-zero", bmp(bmp_info(width, height, 32), b"", b"".join(rows((bgrx + np.array([0, 0, 0, 77], np.uint8))[::-1], 8))), ODD, 0)
    r5, g5, g6, b5 = rgb[..., 0] >> 3, rgb[..., 1] >> 3, rgb[..., 1] >> 2, rgb[..., 2] >> 3
    wide = lambda v, bits: np.rint(v.astype(float) * 255 / ((1 << bits) - 1))
    x555 = (r5.astype(np.uint16) << 10 | g5.astype(np.uint16) << 5 | b5)[..., None]
    x565 = (r5.astype(np.uint16) << 11 | g6.astype(np.uint16) << 5 | b5)[..., None]
    right555 = Image.fromarray(np.dstack([wide(r5, 5), wide(g5, 5), wide(b5, 5)]).astype(np.uint8))
    right565 = Image.fromarray(np.dstack([wide(r5, 5), wide(g6, 6), wide(b5, 5)]).astype(np.uint8))
    kind("bmp-16", bmp(bmp_info(width, height, 16), b"", b"".join(rows(x555[::-1], 16))), right555, 1)
    kind("bmp-16-565", bmp(bmp_info(width, height, 16, 3, masks=(0xF800, 0x7E0, 0x1F)), b"", b"".join(rows(x565[::-1], 16))), right565, 1)
    kind("bmp-16-565-top-down", bmp(bmp_info(width, -height, 16, 3, masks=(0xF800, 0x7E0, 0x1F)), b"", b"".join(rows(x565, 16))), right565, 1)
    masks = (0xFF, 0xFF00, 0xFF0000)
    rgbx = np.dstack([rgb, np.zeros_like(rgb[..., 0])])
    kind("bmp-32-masks", bmp(bmp_info(width, height, 32, 3, masks=masks), b"", b"".join(rows(rgbx[::-1], 8))), ODD, 0)
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    rgba = np.dstack([rgb, alpha])
    for version in (56, 108, 124):
        kind(f"bmp-32-alpha-v{version}", bmp(bmp_info(width, height, 32, 3, masks=masks + (0xFF000000,), version=version), b"",
             b"".join(rows(rgba[::-1], 8))), Image.fromarray(rgba), 1)
    kind("bmp-32-v5-no-alpha", bmp(bmp_info(width, height, 32, 3, masks=masks + (0,), version=124), b"", b"".join(rows(rgba[::-1], 8))), ODD, 1)
    x1010 = (rgb[..., 0].astype(np.uint32) << 22 | rgb[..., 1].astype(np.uint32) << 12 | rgb[..., 2].astype(np.uint32) << 2)
    right1010 = Image.fromarray(np.rint(rgb.astype(float) * 4 * 255 / 1023).astype(np.uint8))
    kind("bmp-32-10-bits", bmp(bmp_info(width, height, 32, 3, masks=(0x3FF << 20, 0x3FF << 10, 0x3FF)), b"", b"".join(rows(x1010[::-1, :, None], 32))), right1010, 1)
    kind("bmp-jpeg-inside", bmp(bmp_info(width, height, 0, 4), b"", saved(ODD, "JPEG")), ODD, refused=True)
    kind("bmp-cut", bmp(bmp_info(width, height, 24), b"", b"".join(rows(rgb[::-1, :, ::-1], 8)))[:-300], ODD, refused=True)


def tiffs():
    rgb, grey = np.asarray(ODD), np.asarray(ODD.convert("L"))
    height, width = grey.shape
    L = ODD.convert("L")
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    rgba = np.dstack([rgb, alpha])

    def one(name, array, photometric, right, tolerance=1, refused=False, file=None, **page):
        kind(f"tiff-{name}", t.write([{"array": np.asarray(array), "photometric": photometric, **page}], **(file or {})), right, tolerance, refused)

    one("rgb", rgb, 2, ODD, 0)
    one("rgb-big-endian", rgb, 2, ODD, 0, file={"order": ">"})
    one("rgb-bigtiff", rgb, 2, ODD, 0, file={"big": True})
    one("rgb-bigtiff-big-endian", rgb, 2, ODD, 0, file={"big": True, "order": ">"})
    one("rgb-strips", rgb, 2, ODD, 0, rows=10)
    one("rgb-tiles", rgb, 2, ODD, 0, tile=(16, 16))
    one("rgb-tiles-deflate", rgb, 2, ODD, 0, tile=(32, 16), compression=8)
    one("rgb-planes", rgb, 2, ODD, 0, planar=True)
    one("rgb-planes-tiles", rgb, 2, ODD, 0, True, planar=True, tile=(16, 16))
    one("rgb-planes-strips-predictor", rgb, 2, ODD, 0, planar=True, rows=7, compression=8, predictor=2)
    one("rgb-packbits", rgb, 2, ODD, 0, compression=32773, rows=5)
    one("rgb-deflate", rgb, 2, ODD, 0, compression=8)
    one("rgb-old-deflate", rgb, 2, ODD, 0, compression=32946)
    one("rgb-deflate-predictor", rgb, 2, ODD, 0, compression=8, predictor=2, rows=10)
    for order in "<>":
        more = "" if order == "<" else "-big-endian"
        one(f"rgb-16{more}", rgb.astype(np.uint16) * 257, 2, ODD, 0, file={"order": order})
        one(f"rgb-16-predictor{more}", rgb.astype(np.uint16) * 257, 2, ODD, 0, file={"order": order}, compression=8, predictor=2)
        one(f"grey-16{more}", grey[..., None].astype(np.uint16) * 257, 1, L, 0, file={"order": order})
        one(f"rgb-float{more}", rgb.astype(np.float32) / 255, 2, ODD, 1, file={"order": order})
        one(f"rgb-float-predictor{more}", rgb.astype(np.float32) / 255, 2, ODD, 1, file={"order": order}, compression=8, predictor=3)
        one(f"grey-float{more}", grey[..., None].astype(np.float32) / 255, 1, L, 1, file={"order": order})
        one(f"grey-12{more}", grey[..., None].astype(np.uint16) * 16, 1, L, 1, True, bits=12, file={"order": order})
    one("rgb-half-float", rgb.astype(np.float16) / 255, 2, ODD, 1)
    one("rgb-double", rgb.astype(np.float64) / 255, 2, ODD, 1)
    one("grey-half-float", grey[..., None].astype(np.float16) / 255, 1, L, 1)
    one("grey-double", grey[..., None].astype(np.float64) / 255, 1, L, 1)
    one("rgba-float", rgba.astype(np.float32) / 255, 2, Image.fromarray(rgba), 1, extra=[2])
    one("rgb-float-planes", rgb.astype(np.float32) / 255, 2, ODD, 1, planar=True)
    one("rgb-float-0-to-255", rgb.astype(np.float32), 2, ODD, refused=True)
    one("grey-float-0-to-255", grey[..., None].astype(np.float32), 1, L, refused=True)
    one("grey-float-0-to-65535", grey[..., None].astype(np.float32) * 257, 1, L, refused=True)
    one("grey-float-signed", grey[..., None].astype(np.float32) / 127.5 - 1, 1, L, refused=True)
    one("rgb-signed", (rgb >> 1).astype(np.int8), 2, ODD, refused=True)
    one("grey-signed-16", grey[..., None].astype(np.int16), 1, L, refused=True)
    one("grey-32", grey[..., None].astype(np.uint32) << 24, 1, L, refused=True)
    one("rgb-32", rgb.astype(np.uint32) << 24, 2, ODD, refused=True)
    for bits in (1, 2, 4, 8):
        few = grey >> (8 - bits)
        step = 255 // ((1 << bits) - 1)
        one(f"grey-{bits}", few[..., None], 1, Image.fromarray((few * step).astype(np.uint8)), 0, bits=bits)
        one(f"grey-{bits}-white-is-zero", few[..., None], 0, Image.fromarray((255 - few * step).astype(np.uint8)), 0, bits=bits)
        one(f"grey-{bits}-fill-order-2", few[..., None], 1, None, 0, bits=bits, more={266: (t.SHORT, [2])}, refused=True)
        quantised = ODD.quantize(1 << bits)
        colours = np.array(quantised.getpalette()[:3 << bits]).reshape(-1, 3)
        colours = np.pad(colours, ((0, (1 << bits) - len(colours)), (0, 0)))
        indices = np.asarray(quantised)
        one(f"palette-{bits}", indices[..., None], 3, Image.fromarray(colours[indices].astype(np.uint8)), 0, bits=bits,
            more={320: (t.SHORT, (colours.T.reshape(-1) * 257).tolist())})
        one(f"palette-{bits}-deflate-strips", indices[..., None], 3, Image.fromarray(colours[indices].astype(np.uint8)), 0, bits=bits,
            compression=8, rows=9, more={320: (t.SHORT, (colours.T.reshape(-1) * 257).tolist())})
    one("palette-8-bit-values", indices[..., None], 3, Image.fromarray(colours[indices].astype(np.uint8)), 0,
        more={320: (t.SHORT, colours.T.reshape(-1).tolist())})
    one("grey-16-white-is-zero", 65535 - grey[..., None].astype(np.uint16) * 257, 0, L, 0)
    one("grey-float-white-is-zero", 1 - grey[..., None].astype(np.float32) / 255, 0, L, 1)
    one("rgba", rgba, 2, Image.fromarray(rgba), 1, extra=[2])
    one("rgba-planes", rgba, 2, Image.fromarray(rgba), 1, extra=[2], planar=True)
    one("rgba-16", rgba.astype(np.uint16) * 257, 2, Image.fromarray(rgba), 1, extra=[2])
    straight = (rgb.astype(float) * alpha[..., None] / 255)
    one("rgba-premultiplied", np.dstack([np.rint(straight).astype(np.uint8), alpha]), 2, np.rint(straight + 255 - alpha[..., None]).astype(np.uint8), 1, extra=[1])
    one("rgb-fourth-band", rgba, 2, ODD, 0, extra=[0])
    one("rgb-fourth-band-predictor", rgba, 2, ODD, 0, extra=[0], compression=8, predictor=2)
    one("five-bands-predictor", np.dstack([rgb, grey, grey]), 2, ODD, 0, extra=[0, 0], compression=8, predictor=2)
    one("rgb-four-bands-undeclared", rgba, 2, None, 1)
    one("grey-alpha", np.dstack([grey, alpha]), 1, Image.fromarray(np.dstack([grey, alpha]), "LA"), 1, extra=[2])
    one("grey-second-band", np.dstack([grey, alpha]), 1, L, 0, extra=[0])
    one("grey-alpha-16", np.dstack([grey, alpha]).astype(np.uint16) * 257, 1, Image.fromarray(np.dstack([grey, alpha]), "LA"), 1, extra=[2])
    five = np.dstack([rgb, grey, grey])
    one("five-bands", five, 2, ODD, 0, extra=[0, 0])
    one("five-bands-planes", five, 2, ODD, 0, extra=[0, 0], planar=True)
    one("five-bands-alpha-last", np.dstack([rgb, grey, alpha]), 2, ODD, 0, extra=[0, 2])
    one("grey-bands-3", rgb, 1, L, refused=True, extra=[0, 0])
    one("grey-bands-7", np.dstack([five, grey, grey]), 1, L, refused=True, extra=[0] * 6)
    ink = np.asarray(ODD.convert("CMYK")).copy()
    ink[..., 3] = 40
    cmyk = Image.fromarray(ink, "CMYK")
    one("cmyk", ink, 5, cmyk, 2)
    one("cmyk-planes", ink, 5, cmyk, 2, planar=True)
    one("cmyk-16", ink.astype(np.uint16) * 257, 5, cmyk, 2)
    one("cmyk-fifth-band", np.dstack([ink, grey]), 5, cmyk, 2, extra=[0])
    over = over_white(cmyk).astype(float)
    one("cmyk-alpha", np.dstack([ink, alpha]), 5, np.rint(over * alpha[..., None] / 255 + 255 - alpha[..., None]).astype(np.uint8), 2, extra=[2])
    one("cmyk-other-inks", ink, 5, cmyk, refused=True, more={332: (t.SHORT, [2])})
    lab = np.asarray(Image.fromarray(rgb).convert("L"))
    one("lab", np.dstack([lab, lab * 0, lab * 0]), 8, L, refused=True)
    one("icc-lab", np.dstack([lab, lab * 0 + 128, lab * 0 + 128]), 9, L, refused=True)
    ycc = np.rint(np.dstack(j.ycc(ODD))).clip(0, 255).astype(np.uint8)
    one("ycc-444", ycc, 6, ODD, 3, more={530: (t.SHORT, [1, 1])})
    one("ycc-undeclared-subsampling", ycc, 6, None, refused=True)
    one("cfa", grey[..., None], 32803, L, refused=True)
    one("linear-raw", rgb, 34892, ODD, refused=True)
    one("transparency-mask", (grey > 99).astype(np.uint8)[..., None], 4, L, refused=True, bits=1)
    one("log-luv", rgb, 32845, ODD, refused=True)
    one("no-photometric-float16", grey[..., None], 1, L, 0, more={258: (t.SHORT, [8])})
    for turn in range(1, 9):
        turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[turn]
        right = ODD if turned is None else ODD.transpose(Image.Transpose(turned))
        one(f"exif-{turn}", rgb, 2, right, 0, more={274: (t.SHORT, [turn])})
    half = scene(20, 14)
    small = {"array": np.asarray(half), "photometric": 2, "more": {254: (t.LONG, [1])}}
    page = {"array": rgb, "photometric": 2}
    kind("tiff-pages", t.write([page, {"array": np.asarray(half), "photometric": 2}]), ODD, 0)
    kind("tiff-pages-marked", t.write([{**page, "more": {254: (t.LONG, [2])}}, {"array": np.asarray(half), "photometric": 2, "more": {254: (t.LONG, [2])}}]), ODD, 0)
    kind("tiff-pyramid", t.write([page, small]), ODD, 0)
    kind("tiff-thumbnail-first", t.write([small, page]), ODD, 0)
    kind("tiff-thumbnail-first-old-tag", t.write([{**small, "more": {255: (t.SHORT, [2])}}, page]), ODD, 0)
    kind("tiff-thumbnail-first-in-sub", t.write([{**small, "sub": [page]}]), ODD, 0)
    kind("tiff-thumbnails-only", t.write([small]), half, 0)
    kind("tiff-mask-first", t.write([{"array": (grey > 99).astype(np.uint8)[..., None], "bits": 1, "photometric": 4, "more": {254: (t.LONG, [4])}}, page]), ODD, 0)
    dng = {50706: (1, [1, 4, 0, 0])}
    kind("tiff-dng", t.write([{**small, "more": small["more"] | dng, "sub": [{"array": grey[..., None], "photometric": 32803}]}]), ODD, refused=True)
    kind("tiff-dng-linear", t.write([{**page, "more": dng}]), ODD, refused=True)
    kind("tiff-nef-like", t.write([{**small, "sub": [{"array": grey[..., None], "photometric": 32803, "compression": 34713}]}]), ODD, refused=True)
    loop = bytearray(t.write([page, small]))
    kind("tiff-loop", bytes(loop[:-4]) + struct.pack("<I", struct.unpack_from("<I", loop, 4)[0]), ODD, 0)
    kind("tiff-cut", t.write([page])[:2000] , ODD, refused=True)
    for name, picture in (("rgb", ODD), ("grey", L), ("rgba", Image.fromarray(rgba)), ("palette", ODD.quantize(64)), ("two-colours", ODD.convert("1")), ("cmyk", cmyk)):
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "webp", "lzma", "group3", "group4", "tiff_ccitt", "jpeg"):
            try:
                data = saved(picture, "TIFF", compression=compression)
                over_white(Image.open(io.BytesIO(data)))
            except Exception:  # Pillow has many ways to say no.
                continue
            lossy = compression in ("jpeg", "webp")
            no_decoder = compression in ("lzma", "group3", "tiff_ccitt")
            kind(f"tiff-pillow-{name}-{compression}", data, None, 60 if lossy else 1, no_decoder, 3)
    kind("tiff-pillow-lzw-predictor", saved(ODD, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), tolerance=0)
    kind("tiff-pillow-pages", saved(ODD, "TIFF", save_all=True, append_images=[EVEN]), tolerance=0)
    try:
        import tifffile
    except ImportError:
        return
    def by_tifffile(name, array, right, tolerance=1, refused=False, **how):
        out = io.BytesIO()
        tifffile.imwrite(out, array, **how)
        kind(f"tiff-tifffile-{name}", out.getvalue(), right, tolerance, refused, 3)
    by_tifffile("plain", rgb, ODD)
    by_tifffile("ome", rgb, ODD, ome=True)
    by_tifffile("imagej", grey, L, imagej=True)
    by_tifffile("imagej-float", grey.astype(np.float32), L, imagej=True, refused=True)
    by_tifffile("stack", np.stack([grey, 255 - grey]), L, photometric="minisblack")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return
    by_tifffile("lzw-tiles", rgb, ODD, compression="lzw", tile=(16, 16), predictor=True)
    by_tifffile("jpeg-tiles", rgb, None, 60, compression="jpeg", tile=(32, 32), photometric="ycbcr")
    by_tifffile("jpeg-rgb", rgb, None, 60, compression="jpeg", photometric="rgb")
    by_tifffile("jpeg-grey", grey, L, 60, compression="jpeg")
    by_tifffile("zstd", rgb, ODD, compression="zstd")
    by_tifffile("webp", rgb, ODD, 60, compression="webp")
    by_tifffile("lerc", rgb, ODD, compression="lerc", refused=True)
    by_tifffile("lzw-float-predictor", rgb.astype(np.float32) / 255, ODD, compression="lzw", predictor=True)
    by_tifffile("jpeg2000", rgb, ODD, compression="jpeg2000", refused=True)


def others():
    rgb, grey = np.asarray(ODD), np.asarray(ODD.convert("L"))
    height, width = grey.shape
    alpha = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    for mode in ("RGB", "RGBA", "L", "P"):
        picture = rgba if mode == "RGBA" else ODD.quantize(64) if mode == "P" else ODD.convert(mode)
        for compression in (None, "tga_rle"):
            kind(f"tga-{mode}{'-rle' if compression else ''}", saved(picture, "TGA", compression=compression), tolerance=1)
    for origin in (0, 0x10, 0x20, 0x30):
        rows = rgb[::1 if origin & 0x20 else -1, ::-1 if origin & 0x10 else 1, ::-1]
        kind(f"tga-origin-{origin:02x}", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 24, origin) + rows.tobytes(), ODD, 0)
    five = rgb >> 3
    x555 = five[..., 0].astype(np.uint16) << 10 | five[..., 1].astype(np.uint16) << 5 | five[..., 2]
    kind("tga-16", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 16, 0x20) + x555.astype("<u2").tobytes(),
         Image.fromarray(np.rint(five * 255.0 / 31).astype(np.uint8)), 1)
    two = ODD.convert("1")
    kind("pnm-p4", saved(two, "PPM"), tolerance=0)
    kind("pnm-p5", saved(ODD.convert("L"), "PPM"), tolerance=0)
    kind("pnm-p6", saved(ODD, "PPM"), tolerance=0)
    bits = 1 - (np.asarray(two) > 0)
    kind("pnm-p1", b"P1\n# by hand\n%d %d\n" % (width, height) + "\n".join(" ".join(map(str, row)) for row in bits.tolist()).encode(), two, 0)
    kind("pnm-p1-tight", b"P1\n%d %d\n" % (width, height) + "\n".join("".join(map(str, row)) for row in bits.tolist()).encode(), two, 0)
    kind("pnm-p2", b"P2\n%d %d\n255\n" % (width, height) + " ".join(map(str, grey.ravel().tolist())).encode(), ODD.convert("L"), 0)
    kind("pnm-p3", b"P3 %d %d 255\n" % (width, height) + " ".join(map(str, rgb.ravel().tolist())).encode(), ODD, 0)
    for top in (1, 3, 15, 100, 200):
        few = np.rint(rgb * (top / 255)).astype(np.uint8)
        kind(f"pnm-p6-maxval-{top}", b"P6 %d %d %d\n" % (width, height, top) + few.tobytes(), Image.fromarray(np.rint(few * (255 / top)).astype(np.uint8)), 1)
    for top in (1023, 4095, 65535):
        deep = np.rint(rgb * (top / 255)).astype(">u2")
        kind(f"pnm-p6-maxval-{top}", b"P6 %d %d %d\n" % (width, height, top) + deep.tobytes(), ODD, 1)
        deep = np.rint(grey * (top / 255)).astype(">u2")
        kind(f"pnm-p5-maxval-{top}", b"P5 %d %d %d\n" % (width, height, top) + deep.tobytes(), ODD.convert("L"), 1)
    pam = lambda kind_, array, top=255: b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n" % (width, height, array.shape[2], top, kind_) + array.tobytes()
    kind("pam-rgb", pam(b"RGB", rgb), ODD, 0)
    kind("pam-rgba", pam(b"RGB_ALPHA", np.asarray(rgba)), rgba, 1)
    kind("pam-grey", pam(b"GRAYSCALE", grey[..., None]), ODD.convert("L"), 0)
    kind("pam-bits", pam(b"BLACKANDWHITE", (np.asarray(two) > 0).astype(np.uint8)[..., None], 1), two, 0)
    kind("pfm", b"PF\n%d %d\n-1.0\n" % (width, height) + (rgb[::-1].astype("<f4") / 255).tobytes(), ODD, 1, refused=True)
    kind("qoi", saved(ODD, "QOI"), tolerance=0)
    kind("qoi-alpha", saved(rgba, "QOI"), tolerance=1)
    kind("farbfeld", b"farbfeld" + struct.pack(">II", width, height) + (np.asarray(rgba).astype(">u2") * 257).tobytes(), rgba, 1)
    square = scene(32, 32)
    square_alpha = square.copy()
    square_alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))))
    for bitmap in ("png", "bmp"):
        kind(f"ico-{bitmap}", saved(square_alpha, "ICO", sizes=[(16, 16), (32, 32)], bitmap_format=bitmap), tolerance=1)
    # Colours of 24 bits with a mask of one bit.
    mask = np.zeros((32, 32), np.uint8)
    mask[:9] = 1
    entry = bmp_info(32, 64, 24) + np.asarray(square)[::-1, :, ::-1].tobytes() + np.packbits(mask[::-1], axis=1).tobytes()
    shown = np.asarray(square).copy()
    shown[:9] = 255
    ico = lambda kind_: struct.pack("<HHH", 0, kind_, 1) + struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 24, len(entry), 22) + entry
    kind("ico-mask", ico(1), Image.fromarray(shown), 0)
    kind("cur-mask", ico(2), Image.fromarray(shown), refused=True)
    kind("dds-rgb", saved(EVEN, "DDS"), EVEN, refused=True)
    for form in ("DXT1", "DXT3", "DXT5"):
        kind(f"dds-{form}", saved(EVEN.convert("RGBA"), "DDS", pixel_format=form), tolerance=60, mean=4)
    # Radiance, without runs: shared exponents.
    floats = np.asarray(EVEN) / 255.0
    exponent = np.ceil(np.log2(floats.max(-1))).astype(int)
    mantissa = np.floor(floats / 2.0 ** exponent[..., None] * 256).clip(0, 255).astype(np.uint8)
    kind("hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 48 +X 64\n" + np.dstack([mantissa, (exponent + 128).astype(np.uint8)]).tobytes(), EVEN, 3)
    for name, head in {"heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "avif": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", "jxl": b"\xff\x0a" + bytes(40),
                       "jxl-boxed": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "jp2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "j2k": b"\xff\x4f\xff\x51\0\x2f" + bytes(40),
                       "psd": b"8BPS\0\1" + bytes(40), "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "pdf": b"%PDF-1.7\n" + bytes(40),
                       "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "mov": b"\0\0\0\x14ftypqt  ", "mkv": b"\x1aE\xdf\xa3" + bytes(40), "avi": b"RIFF\0\0\1\0AVI LIST",
                       "cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raf": b"FUJIFILMCCD-RAW 0201" + bytes(40),
                       "orf": b"IIRO\x08\0\0\0" + bytes(40), "rw2": b"IIU\0\x18\0\0\0" + bytes(40), "x3f": b"FOVb" + bytes(40),
                       "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "xcf": b"gimp xcf v011\0" + bytes(40), "dicom": bytes(128) + b"DICM" + bytes(20),
                       "html": b"<!DOCTYPE html><html>", "fits": b"SIMPLE  =                    T", "bigtiff-junk": b"II+\0\x08\0\0\0" + bytes(40)}.items():
        kind(f"other-{name}", head, ODD, refused=True)


FIXTURES = """jpeg-420-baseline jpeg-420-baseline-apart jpeg-420-baseline-luma-last jpeg-440-baseline-apart-restarts
jpeg-411-baseline-luma-then-chroma jpeg-410-baseline-apart jpeg-420-tables-none jpeg-420-progressive-restarts jpeg-luma-halved-baseline
jpeg-luma-halved-progressive jpeg-3x1-baseline jpeg-cmyk-adobe jpeg-cmyk-no-marker-subsampled-apart jpeg-ycck-adobe-subsampled
jpeg-ycck-adobe-subsampled-apart jpeg-rgb-adobe-apart jpeg-rgb-ids jpeg-ycc-adobe-0-in-jfif jpeg-lossless-grey-16 jpeg-lossless
jpeg-apart-exif-6 jpeg-exif-as-long png-exif-behind-the-pixels webp-exif-with-jpeg-name jpeg-grey-odd-2x2 jpeg-avi-frame jpeg-two-components jpeg-12-bit jpeg-arithmetic
png-grey-2-trns-interlaced png-palette-4-trns png-grey-alpha-16 png-animated-poster gif-offset-transparent gif-frame-past-the-edge-offset
gif-animated-disposal-2 gif-interlaced webp-animated-offset-rgba-18 webp-animated-alpha-lossy webp-lossy-rgba-80 bmp-rle4 bmp-16-565-top-down
bmp-32-alpha-v124 bmp-32-unused-not-zero bmp-os2-8 bmp-32-10-bits
tiff-rgb-bigtiff tiff-rgb-planes-strips-predictor tiff-rgb-planes-tiles tiff-grey-float-big-endian tiff-rgb-half-float tiff-rgb-float-predictor
tiff-rgb-float-0-to-255 tiff-grey-2-white-is-zero tiff-grey-1-fill-order-2 tiff-palette-4-deflate-strips tiff-palette-8-bit-values
tiff-rgba-premultiplied tiff-rgb-fourth-band-predictor tiff-grey-alpha-16 tiff-five-bands-planes tiff-cmyk-planes tiff-cmyk-alpha tiff-ycc-444
tiff-thumbnail-first tiff-thumbnail-first-in-sub tiff-mask-first tiff-pages tiff-pyramid tiff-dng tiff-nef-like tiff-exif-7
tiff-pillow-rgb-jpeg tiff-pillow-two-colours-group4 tiff-pillow-palette-tiff_lzw tiff-pillow-rgb-zstd tiff-grey-signed-16
tga-origin-10 pnm-p6-maxval-100 ico-mask qoi-alpha""".split()


def quarters(pixels):
    """The mean red, green and blue of each quarter, as text."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    parts = [pixels[:height, :width], pixels[:height, width:], pixels[height:, :width], pixels[height:, width:]]
    return " ".join(f"{value:.1f}" for part in parts for value in part.astype(float).mean((0, 1)))


def write_fixtures(folder):
    """The pictures of FIXTURES, and for each its size and the means of its quarters, or `refused`."""
    with open(os.path.join(folder, "means.tsv"), "w") as table:
        for name in FIXTURES:
            data, reference, _, refused, _ = KINDS[name]
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
            right = over_white(Image.open(io.BytesIO(data))) if reference is None else reference
            right = right if isinstance(right, np.ndarray) else over_white(right)
            size = f"{right.shape[1]}x{right.shape[0]}"
            table.write(f"{name}\t" + ("refused\t\n" if refused else f"{size}\t{quarters(right)}\n"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("decode")
    arguments.add_argument("words", nargs="*")
    arguments.add_argument("--keep", help="leave the pictures in this folder")
    arguments.add_argument("--fixtures", help="write the test suite's pictures into this folder, and do no more")
    arguments.add_argument("--wrong", action="store_true", help="show only what is not as it should be")
    given = arguments.parse_args()
    for group in (jpegs, pngs, gifs, webps, bmps, tiffs, others):
        group()
    if given.fixtures:
        return write_fixtures(given.fixtures)
    folder = given.keep or tempfile.mkdtemp()
    os.makedirs(os.path.join(folder, "out"), exist_ok=True)
    names = [name for name in KINDS if not given.words or any(word in name for word in given.words)]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(KINDS[name][0])
    done = subprocess.run([given.decode, "--out", os.path.join(folder, "out"), *[os.path.join(folder, name) for name in names]],
                          capture_output=True, text=True)
    sys.stderr.write(done.stderr[-2000:])
    said = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    wrong = 0
    for name in names:
        data, reference, tolerance, refused, mean = KINDS[name]
        by_pillow = None
        try:
            by_pillow = over_white(Image.open(io.BytesIO(data)))
        except Exception:  # Pillow has many ways to say no.
            pass
        star = " "
        right = by_pillow
        if reference is not None:
            right = reference if isinstance(reference, np.ndarray) else over_white(reference)
            star = "*" if by_pillow is None else "p" if by_pillow.shape == right.shape and np.abs(by_pillow.astype(int) - right).mean() < 3 else "#"
        answer = said.get(name, ["not decoded", "NO ANSWER"])
        shown = ""
        if answer[0] == "not decoded":
            bad = not refused or name not in said
            verdict = "refused" if refused else "REFUSED"
            shown = answer[1]
        else:
            got = np.asarray(Image.open(os.path.join(folder, "out", name + ".png")).convert("RGB")).astype(int)
            means = lambda a: "/".join(f"{v:.0f}" for v in a.mean((0, 1)))
            if right is None:
                verdict, bad = "NO REFERENCE", True
            elif got.shape != right.shape:
                verdict, bad, shown = "OTHER SIZE", True, f"{got.shape[1]}x{got.shape[0]}, not {right.shape[1]}x{right.shape[0]}"
            else:
                off = np.abs(got - right)
                bad = off.max() > tolerance or off.mean() > (mean or tolerance)
                verdict = "DIFFERENT" if bad else "same"
                shown = f"{means(got)} ({means(right)}), off by {off.mean():.2f}, at most {off.max()}"
        wrong += bad
        if bad or not given.wrong:
            print(f"{name:44} {star} {verdict:10} {shown}")
    print(f"{len(names)} kinds, {wrong} not as they should be")
    sys.exit(wrong > 0)


main()
