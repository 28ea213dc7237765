"""Measures torchvision's `ImageFolder` with the transforms of ImageNet's training in a `DataLoader`.

Job: folder, size (of the crop), batch, workers. Prints one measurement, the time of an epoch, after one as a warm-up, in which the
workers start.
"""
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

torch.set_num_threads(1)
transform = v2.Compose([
    v2.RandomResizedCrop(JOB["size"], antialias=True),
    v2.RandomHorizontalFlip(),
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
])
loader = DataLoader(ImageFolder(JOB["folder"], transform), JOB["batch"], shuffle=True, num_workers=JOB["workers"],
                    persistent_workers=JOB["workers"] > 0)


def epoch():
    for images, labels in loader:
        assert images.shape[1:] == (3, JOB["size"], JOB["size"])


epoch()
start = time.perf_counter()
epoch()
report("load", [time.perf_counter() - start])
