"""Writes the kinds of JPEG that Pillow does not: any components, sampling factors, order of scans, precision and colour
markers (ITU-T T.81; sequential, progressive by spectral selection and successive approximation of DC, lossless)."""

import struct

import numpy as np

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i % 8 if (i // 8 + i % 8) % 2 == 0 else i // 8))
_n, _k = np.arange(8)[None, :], np.arange(8)[:, None]
DCT = np.cos((2 * _n + 1) * _k * np.pi / 16) * np.where(_k == 0, np.sqrt(0.5), 1) / 2
# Annex K.3: (numbers of codes of 1 to 16 bits, symbols), by class (DC, AC) and luma, chroma.
_AC_LUMA = (
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a"
    "434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aa"
    "b2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMA = (
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a"
    "434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9"
    "aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
STANDARD = {
    (0, 0): ([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], bytes(range(12))),
    (0, 1): ([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], bytes(range(12))),
    (1, 0): ([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125], bytes.fromhex(_AC_LUMA)),
    (1, 1): ([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119], bytes.fromhex(_AC_CHROMA)),
}
# Every symbol has a code, of 5 and 9 bits: for 12-bit and lossless data.
FLAT = {
    key: ([0, 0, 0, 0, 17] + [0] * 11, bytes(range(17))) if key[0] == 0 else ([0] * 8 + [255] + [0] * 7, bytes(range(255)))
    for key in STANDARD
}


def codes(table):
    numbers, symbols = table
    found, code, at = {}, 0, 0
    for length, number in enumerate(numbers, 1):
        for symbol in symbols[at:at + number]:
            found[symbol] = (code, length)
            code += 1
        code, at = code << 1, at + number
    return found


class Bits:
    def __init__(self):
        self.out, self.value, self.count = bytearray(), 0, 0

    def put(self, value, length):
        self.value, self.count = self.value << length | value & ((1 << length) - 1), self.count + length
        while self.count >= 8:
            byte = self.value >> (self.count - 8) & 255
            self.out += b"\xff\0" if byte == 255 else bytes([byte])
            self.count -= 8
        self.value &= (1 << self.count) - 1

    def signed(self, value, size):
        self.put(value if value >= 0 else value + (1 << size) - 1, size)

    def align(self):
        if self.count:
            self.put(255, 8 - self.count)


def ycc(rgb):
    """[h, w, 3] of 0..255 -> three planes (JFIF)."""
    r, g, b = np.moveaxis(np.asarray(rgb, float), -1, 0)
    return [0.299 * r + 0.587 * g + 0.114 * b,
            128 - 0.168736 * r - 0.331264 * g + 0.5 * b,
            128 + 0.5 * r - 0.418688 * g - 0.081312 * b]


def segment(marker, body):
    return bytes([255, marker]) + struct.pack(">H", len(body) + 2) + body


def dht(tables, keys):
    return b"".join(segment(0xC4, bytes([k << 4 | t]) + bytes(tables[k, t][0]) + tables[k, t][1]) for k, t in keys)


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform):
    return segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def encode(planes, sampling=None, *, scans=None, progressive=False, sof=None, restart=0, before=b"", ids=None, quant=2,
           precision=8, flat=False, huffman="first", lines_later=False, wide_quant=False):
    """`planes`: arrays of one size; `sampling`: (h, v) of each. `scans`: (components, first, last[, high, low]) each;
    without, one scan of all. `huffman`: tables "first", "late" (each before the scan that needs it) or "none"."""
    n = len(planes)
    sampling = sampling or [(1, 1)] * n
    height, width = planes[0].shape
    ids = ids or list(range(1, n + 1))
    tables = FLAT if flat or precision > 8 else STANDARD
    code = {key: codes(table) for key, table in tables.items()}
    hmax, vmax = max(h for h, _ in sampling), max(v for _, v in sampling)
    across, down = -(-width // (8 * hmax)), -(-height // (8 * vmax))
    which = [0 if i in (0, 3) else 1 for i in range(n)]
    blocks, own = [], []
    for plane, (h, v) in zip(planes, sampling):
        fx, fy, w, t = hmax // h, vmax // v, across * h * 8, down * v * 8
        full = np.pad(np.asarray(plane, float), ((0, t * fy - height), (0, w * fx - width)), mode="edge")
        small = full.reshape(t, fy, w, fx).mean((1, 3)) - (1 << (precision - 1))
        parts = small.reshape(t // 8, 8, w // 8, 8).transpose(0, 2, 1, 3)
        blocks.append(np.rint(DCT @ parts @ DCT.T / quant).astype(int).reshape(t // 8, w // 8, 64)[..., ZIGZAG])
        own.append((-(-(-(-width * h // hmax)) // 8), -(-(-(-height * v // vmax)) // 8)))
    out = bytearray(b"\xff\xd8" + before)
    out += segment(0xDB, b"\x10" + struct.pack(">H", quant) * 64 if wide_quant else bytes([0] + [quant] * 64))
    kind = sof or (0xC2 if progressive else 0xC1 if precision > 8 else 0xC0)
    frame = struct.pack(">BHHB", precision, 0 if lines_later else height, width, n)
    out += segment(kind, frame + b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, sampling)))
    if huffman == "first":
        out += dht(tables, [(k, t) for k in (0, 1) for t in sorted(set(which))])
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    written = set()
    for number_of_scan, (components, first, last, *approximation) in enumerate(scans or [(list(range(n)), 0, 63)]):
        high, low = approximation or (0, 0)
        if huffman == "late":
            needed = [(k, which[i]) for i in components for k in (0, 1) if (first == 0 if k == 0 else last > 0)]
            new = [key for key in dict.fromkeys(needed) if key not in written]
            written.update(new)
            out += dht(tables, new)
        selectors = b"".join(bytes([ids[i], which[i] << 4 | which[i]]) for i in components)
        out += segment(0xDA, bytes([len(components)]) + selectors + bytes([first, last, high << 4 | low]))
        if len(components) == 1:
            i = components[0]
            units = [[(i, y, x)] for y in range(own[i][1]) for x in range(own[i][0])]
        else:
            units = [[(i, my * sampling[i][1] + y, mx * sampling[i][0] + x) for i in components
                      for y in range(sampling[i][1]) for x in range(sampling[i][0])]
                     for my in range(down) for mx in range(across)]
        bits, previous = Bits(), [0] * n
        for number, unit in enumerate(units):
            if restart and number and number % restart == 0:
                bits.align()
                bits.out += bytes([255, 0xD0 + (number // restart - 1) % 8])
                previous = [0] * n
            for i, y, x in unit:
                block = blocks[i][y, x]
                if first == 0 and high:
                    bits.put(int(block[0]) >> low & 1, 1)
                elif first == 0:
                    value = int(block[0]) >> low
                    size = abs(value - previous[i]).bit_length()
                    bits.put(*code[0, which[i]][size])
                    bits.signed(value - previous[i], size)
                    previous[i] = value
                if last > 0:
                    ac, zeros = code[1, which[i]], 0
                    for value in block[max(first, 1):last + 1].tolist():
                        if value == 0:
                            zeros += 1
                            continue
                        while zeros > 15:
                            bits.put(*ac[0xF0])
                            zeros -= 16
                        size = abs(value).bit_length()
                        bits.put(*ac[zeros << 4 | size])
                        bits.signed(value, size)
                        zeros = 0
                    if zeros:
                        bits.put(*ac[0])
        bits.align()
        out += bits.out
        if lines_later and number_of_scan == 0:
            out += segment(0xDC, struct.pack(">H", height))
    return bytes(out + b"\xff\xd9")


def lossless(planes, *, precision=8, ids=None, before=b""):
    """SOF3 with predictor 1 (the sample to the left)."""
    height, width = planes[0].shape
    ids = ids or list(range(1, len(planes) + 1))
    code, bits = codes(FLAT[0, 0]), Bits()
    stack = np.stack([np.asarray(p, int) for p in planes], -1)
    for y in range(height):
        for x in range(width):
            for c in range(len(planes)):
                if x:
                    guess = stack[y, x - 1, c]
                else:
                    guess = stack[y - 1, 0, c] if y else 1 << (precision - 1)
                difference = int(stack[y, x, c]) - int(guess)
                size = abs(difference).bit_length()
                bits.put(*code[size])
                bits.signed(difference, size)
    bits.align()
    frame = struct.pack(">BHHB", precision, height, width, len(planes)) + b"".join(bytes([i, 0x11, 0]) for i in ids)
    scan = bytes([len(planes)]) + b"".join(bytes([i, 0]) for i in ids) + bytes([1, 0, 0])
    return (b"\xff\xd8" + before + segment(0xC3, frame) + dht(FLAT, [(0, 0)]) + segment(0xDA, scan)
            + bytes(bits.out) + b"\xff\xd9")
