"""References: mean gradient, SmoothGrad, Grad-CAM and Grad-CAM++ of a lesion, computed literally.

Short and slow on purpose: what the libraries' maps are compared with must be easy to check by eye.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segxai import Instance, InstanceScore
from segxai.methods.layers import find_layer

NOISE = 0.05  # of the patch's range, one level for both channels: the only one that MONAI has


@dataclass(frozen=True)
class Scene:
    """A patch (1, channel, x, y, z), two lesions in it, and how they are explained."""

    image: np.ndarray
    lesions: tuple[Instance, Instance]
    copies: int
    layer: str

    @property
    def tensor(self) -> Tensor:
        """A fresh copy of the patch: some libraries change their input."""
        return torch.from_numpy(self.image.copy())

    @property
    def noise(self) -> float:
        """Standard deviation of the noise."""
        return NOISE * float(self.image.max() - self.image.min())

    def upsampled(self, heat: Tensor) -> Tensor:
        """Interpolate a heat map (1, 1, *layer) linearly to the patch, where libraries do not."""
        size = self.image.shape[2:]
        return functional.interpolate(heat, size, mode="trilinear", align_corners=False)


class Summed(nn.Module):
    """The lesion's summed logits as the only class (batch, 1): the score of Eq. 9."""

    def __init__(self, network: nn.Module, lesion: Instance) -> None:
        super().__init__()
        self.score = InstanceScore(network, lesion)
        self.count = len(lesion.voxels)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the mean times the number of voxels."""
        return self.count * self.score(image)[:, None]


def exact_gradient(
    network: nn.Module, scene: Scene, lesion: Instance, noise: Tensor | float = 0.0
) -> Tensor:
    """Compute the gradient of the mean logit over the domain, on the patch with some noise."""
    leaf = (scene.tensor + noise).requires_grad_()
    index = tuple(torch.from_numpy(lesion.voxels.T))
    mean = network(leaf)[(0, lesion.class_index, *index)].mean()
    return torch.autograd.grad(mean, leaf)[0]


def exact_smoothgrad(network: nn.Module, scene: Scene, lesion: Instance, seed: int = 1) -> Tensor:
    """Compute the mean of the gradients on noisy copies, drawn independently of any library's."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(scene.image.shape)
    for _ in range(scene.copies):
        noise = scene.noise * torch.randn(scene.image.shape, generator=generator)
        total += exact_gradient(network, scene, lesion, noise)
    return total / scene.copies


def other_draw(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute the same on other copies: no library can come nearer to the first than this."""
    return exact_smoothgrad(network, scene, lesion, seed=2)


def features(network: nn.Module, scene: Scene, lesion: Instance) -> tuple[Tensor, Tensor]:
    """Compute the layer's maps and the gradient of the summed logits with respect to them."""
    kept: list[Tensor] = []
    layer = find_layer(network, scene.layer)
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    score = Summed(network, lesion)(scene.tensor.requires_grad_()).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return kept[0].detach(), gradient


def exact_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute the original Grad-CAM: each map's weight is its gradient's mean over the layer."""
    maps, gradient = features(network, scene, lesion)
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    return scene.upsampled((weights * maps).sum(dim=1, keepdim=True).relu())


def exact_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute Eqs. 8 to 10: a weight for each map and voxel, with the coefficients of Eq. 7."""
    maps, gradient = features(network, scene, lesion)
    denominator = 2 + maps.sum(dim=(2, 3, 4), keepdim=True) * gradient
    alpha = torch.where(denominator.abs() < 1e-6, 0, 1 / denominator)
    return scene.upsampled((alpha * gradient.relu() * maps).sum(dim=1, keepdim=True).relu())
