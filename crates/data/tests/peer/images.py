"""Writes image files and what Pillow and torchvision make of them: python images.py DIR; see ../torchvision.rs."""
import io
import json
import math
import os
import pickle
import random
import sys
import tarfile

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import (CenterCrop, Compose, InterpolationMode, Normalize, Pad, RandomHorizontalFlip, Resize,
                                    ToTensor)
from torchvision.transforms import autoaugment as aa
from torchvision.transforms import functional as F

root = sys.argv[1]
rng = np.random.RandomState(7)


def random_pixels(h, w, channels):
    """Smooth colors with noise and a few edges."""
    y, x = np.mgrid[0:h, 0:w]
    planes = [127 + 90 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 + c)) for c in range(channels)]
    image = np.stack(planes, -1) + rng.randint(-12, 13, (h, w, channels))
    image[h // 3:h // 2, w // 4:w // 2] = rng.randint(0, 256, channels)
    return image.clip(0, 255).astype(np.uint8)


def save(image, name, **options):
    path = os.path.join(root, "folder", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image.save(path, **options)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


rgb = lambda h=None, w=None: Image.fromarray(random_pixels(h or rng.randint(20, 90), w or rng.randint(20, 90), 3))
for i in range(1, 9):
    save(rgb(), f"turned/jpeg{i}.jpg", quality=92, exif=orientation(i))
    save(rgb(), f"turned/more/png{i}.PNG", exif=orientation(i))
for quality, sampling in [(95, 0), (75, 1), (60, 2), (100, 2)]:
    save(rgb(), f"jpeg/q{quality}_{sampling}.jpeg", quality=quality, subsampling=sampling)
save(rgb(), "jpeg/progressive.jpg", progressive=True)
save(rgb().convert("L"), "jpeg/gray.JPG")
save(rgb().convert("CMYK"), "jpeg/cmyk.jpg", quality=98)
save(rgb(33, 17), "lossless/a.png")
save(rgb().convert("L"), "lossless/gray.png")
save(rgb().convert("1"), "lossless/one_bit.png")
save(rgb().convert("P", palette=Image.ADAPTIVE), "lossless/palette.png")
save(rgb().convert("P", palette=Image.ADAPTIVE, colors=7), "lossless/palette3.png")
alpha = rgb(40, 50)
alpha.putalpha(Image.fromarray(random_pixels(40, 50, 1)[..., 0]))
save(alpha, "lossless/alpha.png")
save(alpha.convert("LA"), "lossless/gray_alpha.png")
transparent = rgb(30, 30).convert("P", palette=Image.ADAPTIVE, colors=16)
save(transparent, "lossless/transparent.png", transparency=3)
deep = (random_pixels(31, 37, 1)[..., 0].astype(np.uint16) * 256 + rng.randint(0, 256, (31, 37)).astype(np.uint16))
save(Image.fromarray(deep), "lossless/deep.png")
for i in range(4):
    save(rgb(), f"lossless/{i}.bmp")
    save(rgb(), f"lossless/{i}.tiff", compression=["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"][i])
    save(rgb(), f"lossless/w{i}.webp", lossless=True)
    save(rgb(), f"webp/{i}.webp", quality=[50, 75, 90, 100][i])
save(rgb().convert("L"), "lossless/gray.tif")
save(rgb().convert("L"), "lossless/gray.bmp")
save(rgb(), "lossless/a.ppm")
save(rgb().convert("L"), "lossless/gray.pgm")
frames = [rgb(24, 36).convert("P", palette=Image.ADAPTIVE) for _ in range(3)]
save(frames[0], "gif/animated.gif", save_all=True, append_images=frames[1:])
save(rgb().convert("P", palette=Image.ADAPTIVE), "gif/still.gif")

os.makedirs(os.path.join(root, "raw"))
cases = []


def dump(image):
    """Stores the pixels [h, w, c], and returns file, height, width and channels."""
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    name = f"raw/{len(os.listdir(os.path.join(root, 'raw')))}"
    array.tofile(os.path.join(root, name))
    return [name, *array.shape]


class WithGif(ImageFolder):
    def __init__(self, folder):
        extensions = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
        super().__init__(folder, is_valid_file=lambda path: path.lower().endswith(extensions))


folder = WithGif(os.path.join(root, "folder"))
files, transformed = [], []
for path, label in folder.samples:
    upright = ImageOps.exif_transpose(Image.open(path))
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    color = upright.convert("RGB")
    gray = color.convert("L") if upright.mode not in ("L", "LA", "1") else upright.convert("L")
    files.append({"path": os.path.relpath(path, root), "label": label, "rgb": dump(color), "gray": dump(gray)})
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    for side, filter in [(40, InterpolationMode.BILINEAR), (23, InterpolationMode.BICUBIC), (77, InterpolationMode.BICUBIC)]:
        small = CenterCrop((37, 31))(Resize(side, interpolation=filter)(color))
        flipped = RandomHorizontalFlip(p=1.0)(small)
        tensor = Compose([ToTensor(), Normalize(mean, std)])(flipped)
        name = f"raw/{len(os.listdir(os.path.join(root, 'raw')))}"
        tensor.numpy().tofile(os.path.join(root, name))
        transformed.append({"from": dump(color), "side": side, "bicubic": filter == InterpolationMode.BICUBIC,
                            "bytes": dump(flipped), "tensor": name})

operations = []
for size in [(47, 61), (32, 32)]:
    image = Image.fromarray(random_pixels(*size, 3))
    source = dump(image)
    spaces = {"rand": (aa.RandAugment()._augmentation_space(31, size), 31),
              "wide": (aa.TrivialAugmentWide()._augmentation_space(31), 31),
              "auto": (aa.AutoAugment()._augmentation_space(10, size), 10)}
    for name, (space, bins) in spaces.items():
        for op, (magnitudes, signed) in space.items():
            for bin in range(bins if magnitudes.ndim > 0 else 1):
                magnitude = float(magnitudes[bin].item()) if magnitudes.ndim > 0 else 0.0
                for value in {magnitude, -magnitude} if signed else {magnitude}:
                    result = aa._apply_op(image, op, value, InterpolationMode.NEAREST, None)
                    operations.append({"space": name, "op": op, "bin": bin, "magnitude": magnitude, "value": value,
                                       "from": source, "to": dump(result)})

others = []
image = Image.fromarray(random_pixels(45, 38, 3))
for name, argument, result in [("grayscale", 0, F.rgb_to_grayscale(image, 3)),
                               *[("blur", sigma, F.gaussian_blur(image, [5, 5], [sigma, sigma])) for sigma in (0.3, 1.0, 2.5)],
                               ("pad", 0, Pad([1, 2, 3, 4], fill=9)(image)),
                               ("center_crop", 0, CenterCrop((50, 21))(image))]:
    others.append({"name": name, "argument": argument, "from": dump(image), "to": dump(result)})

# CIFAR-10: the same records as the binary version for us, and as the pickled version for torchvision.
labels = [int(label) for label in rng.randint(0, 10, 12)]
pixels = rng.randint(0, 256, (12, 3072)).astype(np.uint8)
batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
os.makedirs(os.path.join(root, "cifar-10"))
os.makedirs(os.path.join(root, "torch", "cifar-10-batches-py"))
with tarfile.open(os.path.join(root, "cifar-10", "cifar-10-binary.tar.gz"), "w:gz") as archive:
    for i, batch in enumerate(batches):
        rows = slice(2 * i, 2 * i + 2)
        records = b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels[rows], pixels[rows]))
        info = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}.bin")
        info.size = len(records)
        archive.addfile(info, io.BytesIO(records))
        with open(os.path.join(root, "torch", "cifar-10-batches-py", batch), "wb") as file:
            pickle.dump({"data": pixels[rows], "labels": labels[rows]}, file)
names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
with open(os.path.join(root, "torch", "cifar-10-batches-py", "batches.meta"), "wb") as file:
    pickle.dump({"label_names": names}, file)
CIFAR10._check_integrity = lambda self: True
import torchvision.datasets.cifar as cifar_module
cifar_module.check_integrity = lambda *arguments: True
cifar = {}
for part, train in [("train", True), ("test", False)]:
    data = CIFAR10(os.path.join(root, "torch"), train=train)
    cifar[part] = [{"label": label, "image": dump(image)} for image, label in data]

json.dump({"classes": folder.classes, "files": files, "transformed": transformed, "operations": operations,
           "others": others, "cifar": cifar, "cifar_classes": data.classes}, open(os.path.join(root, "cases.json"), "w"))
