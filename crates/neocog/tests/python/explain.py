"""Compares explanations and embeddings with PyTorch: python explain.py NETWORKS DIRECTORY

NETWORKS is the directory of networks.py. DIRECTORY holds lenet_bn.safetensors, the weights; x.png, an image; saliency.npy,
integrated-gradients.npy, gradcam.npy and occlusion.npy of class 4; e.npy and 4.npy, embeddings of the images input.npy.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

networks_dir, directory = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, networks_dir)
import networks

CLASS = 4
torch.set_num_threads(1)
net = networks.lenet_bn().eval()
net.load_state_dict(load_file(directory / "lenet_bn.safetensors"), strict=True)
x = torch.tensor(np.asarray(Image.open(directory / "x.png").convert("L"), dtype=np.float32) / 255)[None, None]


def compare(name, expected, tolerance=1e-5):
    found = np.load(directory / f"{name}.npy")
    expected = np.asarray(expected, dtype=np.float64).reshape(found.shape)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{name} deviates by {error:.1e}"
    print(f"{name}: {error:.1e}")


def gradient(images):
    images = images.clone().requires_grad_()
    net(images)[:, CLASS].sum().backward()
    return images.grad


compare("saliency", gradient(x))
alphas = (torch.arange(20) + 0.5) / 20
compare("integrated-gradients", x * torch.stack([gradient(alpha * x)[0] for alpha in alphas]).mean(0))

drops, covered = torch.zeros(28, 28), torch.zeros(28, 28)
starts = [*range(0, 28 - 4, 2), 28 - 4]
corners = [(top, left) for top in starts for left in starts]
hidden = x.repeat(len(corners), 1, 1, 1)
for image, (top, left) in zip(hidden, corners):
    image[:, top:top + 4, left:left + 4] = 0
with torch.no_grad():
    whole, logits = net(x)[0, CLASS], net(hidden)[:, CLASS]
for logit, (top, left) in zip(logits, corners):
    drops[top:top + 4, left:left + 4] += whole - logit
    covered[top:top + 4, left:left + 4] += 1
compare("occlusion", drops / covered, 1e-4)

kept = {}
layer = dict(net.named_modules())["4"]
handle = layer.register_forward_hook(lambda module, inputs, output: kept.update(output=output) or output.retain_grad())
net(x)[0, CLASS].backward()
handle.remove()
maps, grads = kept["output"][0], kept["output"].grad[0]
cam = torch.relu((grads.mean((1, 2), keepdim=True) * maps).sum(0)).detach()
cam = torch.nn.functional.interpolate(cam[None, None], (28, 28), mode="bilinear", align_corners=False)
compare("gradcam", cam, 1e-4)
try:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    peer = GradCAM(model=net, target_layers=[layer])(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)])
    correlation = np.corrcoef(peer.ravel(), np.load(directory / "gradcam.npy").ravel())[0, 1]
    assert correlation > 0.999, correlation
    print(f"gradcam, correlation with pytorch-grad-cam: {correlation:.6f}")
except ImportError:
    print("pytorch-grad-cam is not installed: not compared")

from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

images = torch.tensor(np.load(directory / "input.npy"))
nodes = get_graph_node_names(net)[1]
last_linear = [name for name, module in net.named_modules() if isinstance(module, torch.nn.Linear)][-1]
before = nodes[nodes.index(last_linear) - 1]
with torch.no_grad():
    features = create_feature_extractor(net, [before, "4"])(images)
compare("e", features[before])
compare("4", features["4"].flatten(1))
