"""Writes the kinds of TIFF that Pillow does not: floats, any bit depth and number of bands, planes apart, tiles,
predictors, BigTIFF, both byte orders, several pages and sub-directories (TIFF 6.0)."""

import struct
import zlib

import numpy as np

ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5
FORMATS = {1: "B", ASCII: "B", SHORT: "H", LONG: "I", 7: "B", 16: "Q"}


def packed(array, bits, order):
    """Rows of samples -> bytes; less than a byte each, from the highest bit, each row padded."""
    if bits in (8, 16, 32, 64):
        return array.astype(array.dtype.newbyteorder(order)).tobytes()
    rows = array.reshape(array.shape[0], -1).astype(np.uint32)
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((rows[..., None] >> shifts & 1).astype(np.uint8).reshape(rows.shape[0], -1), axis=1).tobytes()


def predicted(array, predictor, order):
    if predictor == 2:
        moved = array.copy()
        moved[:, 1:] -= array[:, :-1]
        return moved
    if predictor == 3:
        # TIFF technical note 3: the bytes of a row apart, highest first, then differences.
        rows, bytes_each = array.shape[0], array.dtype.itemsize
        apart = np.frombuffer(array.astype(array.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(rows, -1, bytes_each)
        apart = apart.transpose(0, 2, 1).reshape(rows, -1)
        channels = array.shape[2]
        moved = apart.copy()
        moved[:, channels:] -= apart[:, :-channels]
        return moved[..., None]
    return array


def squeezed(data, compression):
    if compression in (8, 32946):
        return zlib.compress(data)
    if compression == 32773:
        out = bytearray()
        for at in range(0, len(data), 128):
            part = data[at:at + 128]
            out += bytes([len(part) - 1]) + part
        return bytes(out)
    return data


def write(pages, *, order="<", big=False):
    """`pages`: dictionaries with `array` [h, w, channels] and `photometric`, and optionally `bits`, `planar`, `tile`,
    `rows` (of a strip), `compression`, `predictor`, `extra`, `more` (tags: number -> (type, values)), `strips` (the
    encoded strips themselves) and `sub` (pages that become sub-directories). Returns the file's bytes."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0))))
    links = [8 if big else 4]
    word, size = ("Q", 8) if big else ("I", 4)

    def blob(data):
        if len(out) % 2:
            out.append(0)
        at = len(out)
        out.extend(data)
        return at

    def directory(page):
        subs = [directory(sub)[0] for sub in page.get("sub", [])]
        array = np.asarray(page["array"])
        height, width, channels = array.shape
        bits = page.get("bits", array.dtype.itemsize * 8)
        compression, predictor = page.get("compression", 1), page.get("predictor", 1)
        planes = [array[..., i:i + 1] for i in range(channels)] if page.get("planar") else [array]
        parts = page.get("strips")
        rows = page.get("rows", height)
        if parts is None:
            parts = []
            for plane in planes:
                if page.get("tile"):
                    tw, th = page["tile"]
                    plane = np.pad(plane, ((0, -height % th), (0, -width % tw), (0, 0)), mode="edge")
                    pieces = [plane[y:y + th, x:x + tw] for y in range(0, plane.shape[0], th) for x in range(0, plane.shape[1], tw)]
                else:
                    pieces = [plane[y:y + rows] for y in range(0, height, rows)]
                for piece in pieces:
                    piece = predicted(piece, predictor, order)
                    parts.append(squeezed(packed(piece, 8 if predictor == 3 else bits, order), compression))
        places = [blob(part) for part in parts]
        kind = {"u": 1, "b": 1, "i": 2, "f": 3}[array.dtype.kind]
        tags = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * channels), 259: (SHORT, [compression]),
                262: (SHORT, [page["photometric"]]), 277: (SHORT, [channels]), 284: (SHORT, [2 if page.get("planar") else 1]),
                339: (SHORT, [kind] * channels)}
        if predictor != 1:
            tags[317] = (SHORT, [predictor])
        if page.get("tile"):
            tags |= {322: (LONG, [page["tile"][0]]), 323: (LONG, [page["tile"][1]]), 324: (LONG, places), 325: (LONG, [len(p) for p in parts])}
        else:
            tags |= {273: (LONG, places), 278: (LONG, [rows]), 279: (LONG, [len(p) for p in parts])}
        if "extra" in page:
            tags[338] = (SHORT, page["extra"])
        if subs:
            tags[330] = (LONG, subs)
        tags |= page.get("more", {})
        entries = []
        for number, (type_, values) in sorted(tags.items()):
            data = struct.pack(f"{order}{len(values)}{FORMATS[type_]}", *values) if type_ != RATIONAL else \
                b"".join(struct.pack(order + "II", *value) for value in values)
            if len(data) > size:
                data = struct.pack(order + word, blob(data))
            entries.append(struct.pack(order + "HH" + word, number, type_, len(values)) + data.ljust(size, b"\0"))
        at = blob(struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries))
        link = len(out)
        out.extend(b"\0" * size)
        return at, link

    for page in pages:
        at, link = directory(page)
        struct.pack_into(order + word, out, links[-1], at)
        links.append(link)
    return bytes(out)
