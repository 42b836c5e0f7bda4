"""Writes small JPEGs with the frequencies of photographs, in the kinds of sampling that cameras use. Run by hand:

    python tests/support/pictures/photographs.py tests/fixtures/photographs

Needs Pillow and NumPy."""

import os
import sys

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 301, 203  # No multiple of any block.


def photograph(seed):
    """Noise whose amplitude falls as its frequency grows, weaker in chroma, and some edges."""
    rng = np.random.default_rng(seed)
    values = np.full((HEIGHT, WIDTH, 3), 128.0, np.float32)
    for cells, amplitude in [(2, 50), (4, 35), (9, 25), (20, 15), (50, 9), (120, 5), (301, 3)]:
        luma = rng.normal(size=(max(2, cells * 2 // 3), cells))
        for channel in range(3):
            noise = luma + 0.4 * rng.normal(size=luma.shape)
            noise = Image.fromarray(noise.astype(np.float32)).resize((WIDTH, HEIGHT), Image.BICUBIC)
            values[..., channel] += amplitude * np.asarray(noise)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for _ in range(8):
        at, radius = rng.uniform([0, 0], [WIDTH, HEIGHT]), rng.uniform(8, 60)
        values[np.hypot(x - at[0], y - at[1]) < radius] += rng.normal(size=3) * 40
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    kinds = {
        "420": dict(subsampling=2),
        "420-restarts": dict(subsampling=2, restart_marker_blocks=7),
        "422": dict(subsampling=1),
        "444-optimized": dict(subsampling=0, optimize=True),
        "grey": dict(),
    }
    for seed, (name, how) in enumerate(kinds.items()):
        picture = photograph(seed).convert("L" if name == "grey" else "RGB")
        picture.save(os.path.join(folder, f"{name}.jpg"), quality=85, **how)


if __name__ == "__main__":
    main()
