"""Writes resize.json next to this file: small images resized with Pillow (pip install pillow==13.0.0; python resize.py)."""
import hashlib
import json
import pathlib

import PIL
from PIL import Image

# (from, to, whether to store the bytes), sizes as (h, w)
SIZES = [
    ((8, 8), (28, 28), False), ((8, 8), (32, 32), False), ((8, 8), (96, 96), False),
    ((28, 28), (28, 28), False), ((28, 28), (96, 96), False), ((28, 28), (224, 224), False),
    ((28, 28), (32, 32), False), ((28, 28), (64, 64), False), ((28, 28), (29, 27), False),
    ((28, 28), (14, 14), False), ((28, 28), (12, 17), False), ((28, 28), (8, 8), True),
    ((28, 28), (1, 1), True), ((96, 96), (28, 28), False), ((224, 160), (28, 28), False),
    ((5, 3), (7, 9), True), ((9, 7), (3, 2), True), ((1, 1), (3, 4), True), ((1, 6), (4, 4), True),
    ((6, 6), (6, 13), True), ((6, 6), (13, 6), True), ((2, 30), (30, 2), True), ((31, 1), (2, 5), True),
    ((37, 53), (41, 19), False), ((100, 3), (99, 200), False),
]


def random_image(seed, size):
    x, pixels = seed, bytearray()
    for _ in range(size[0] * size[1]):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        pixels.append(x >> 24)
    return Image.frombytes("L", (size[1], size[0]), bytes(pixels))


cases = []
for seed, (old, new, listed) in enumerate(SIZES, 1):
    found = random_image(seed, old).resize((new[1], new[0]), Image.BILINEAR).tobytes()
    case = {"seed": seed, "from": old, "to": new, "sha256": hashlib.sha256(found).hexdigest()}
    if listed:
        case["bytes"] = list(found)
    cases.append(json.dumps(case))
text = f'{{"made_with": "Pillow {PIL.__version__}", "cases": [\n' + ",\n".join(cases) + "\n]}\n"
pathlib.Path(__file__).with_name("resize.json").write_text(text)
