"""Libraries: the map of a lesion by each of them, in one function per call.

A call imports its library itself, so that a missing or broken one does not affect the others. A
library that explains classes only is given `InstanceScore` or `Summed`, which make the lesion the
only class.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segxai import Instance, InstanceScore
from segxai.methods.layers import find_layer
from workbench.references import NOISE, Scene, Summed


def segxai_mean(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute segxai's mean gradient: signed, as the others should be."""
    from segxai import InstanceGradient

    return InstanceGradient(network, "mean").attribute(scene.tensor, instance=lesion)


def captum_saliency(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute captum's Saliency by default: absolute values."""
    from captum.attr import Saliency

    return Saliency(InstanceScore(network, lesion)).attribute(scene.tensor.requires_grad_())


def captum_saliency_signed(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute captum's Saliency with signs kept."""
    from captum.attr import Saliency

    saliency = Saliency(InstanceScore(network, lesion))
    return saliency.attribute(scene.tensor.requires_grad_(), abs=False)


def monai_gradient_of_class(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's VanillaGrad by default: all voxels of the class, summed."""
    from monai.visualize import VanillaGrad

    return VanillaGrad(network)(scene.tensor, index=lesion.class_index)


def monai_gradient(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's VanillaGrad of the lesion's summed logits: larger by the number of voxels."""
    from monai.visualize import VanillaGrad

    return VanillaGrad(Summed(network, lesion))(scene.tensor, index=0)


def segxai_smoothgrad(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute segxai's SmoothGrad: signed, with noise that can be repeated."""
    from segxai import InstanceGradient, SeededNoiseTunnel

    tunnel = SeededNoiseTunnel(InstanceGradient(network, "mean"))
    return tunnel.attribute(
        scene.tensor, nt_samples=scene.copies, stdevs=scene.noise, instance=lesion
    )


def captum_smoothgrad(
    network: nn.Module, scene: Scene, lesion: Instance, **saliency: Any
) -> Tensor:
    """Compute captum's SmoothGrad by default: the mean of absolute values."""
    from captum.attr import NoiseTunnel, Saliency

    return NoiseTunnel(Saliency(InstanceScore(network, lesion))).attribute(
        scene.tensor,
        nt_samples=scene.copies,
        nt_samples_batch_size=1,  # its default holds the graphs of all copies at once
        stdevs=scene.noise,
        **saliency,
    )


def captum_smoothgrad_signed(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute captum's SmoothGrad with signs kept."""
    return captum_smoothgrad(network, scene, lesion, abs=False)


def monai_smoothgrad(network: nn.Module, scene: Scene, lesion: Instance, **options: Any) -> Tensor:
    """Compute MONAI's SmoothGrad by default: not the mean of the gradients.

    It is the root of the sum of squares, divided by the number of copies.
    """
    from monai.visualize import SmoothGrad

    method = SmoothGrad(
        Summed(network, lesion),
        stdev_spread=NOISE,
        n_samples=scene.copies,
        verbose=False,
        **options,
    )
    return method(scene.tensor, index=0)


def monai_smoothgrad_signed(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's SmoothGrad with signs kept."""
    return monai_smoothgrad(network, scene, lesion, magnitude=False)


def segxai_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute segxai's Grad-CAM++ for instances: Eqs. 8 to 10."""
    from segxai import InstanceGradCamPlusPlus

    layer = find_layer(network, scene.layer)
    return InstanceGradCamPlusPlus(network, layer).attribute(scene.tensor, instance=lesion)


def captum_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute captum's LayerGradCam with ReLU, which it leaves out by default."""
    from captum.attr import LayerGradCam

    method = LayerGradCam(Summed(network, lesion), find_layer(network, scene.layer))
    return scene.upsampled(method.attribute(scene.tensor, target=0, relu_attributions=True))


def monai_gradcam_of_class(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's GradCAM of the class by default.

    Its values are mapped to 1 for the smallest and 0 for the largest.
    """
    from monai.visualize import GradCAM

    return GradCAM(network, scene.layer)(scene.tensor, class_idx=lesion.class_index)


def monai_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's GradCAM of the lesion's summed logits, mapped as that of the class."""
    from monai.visualize import GradCAM

    wrapped = Summed(network, lesion)
    return GradCAM(wrapped, f"score.model.{scene.layer}")(scene.tensor, class_idx=0)


def monai_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's GradCAMpp: it multiplies by exp(score), which overflows for summed logits."""
    from monai.visualize import GradCAMpp

    wrapped, layer = Summed(network, lesion), f"score.model.{scene.layer}"
    return GradCAMpp(wrapped, layer, postprocessing=lambda heat: heat)(scene.tensor, class_idx=0)


def monai_gradcam_as_it_is(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute MONAI's GradCAM of the lesion's summed logits without the mapping."""
    from monai.visualize import GradCAM

    wrapped, layer = Summed(network, lesion), f"score.model.{scene.layer}"
    return GradCAM(wrapped, layer, postprocessing=lambda heat: heat)(scene.tensor, class_idx=0)


def of_pytorch_grad_cam(method: str, network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute a map by pytorch-grad-cam, with its target for a mask; maps are scaled to 0 to 1."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

    mask = lesion.mask(scene.image.shape[2:]).astype(np.float32)
    target = SemanticSegmentationTarget(lesion.class_index, mask)
    with getattr(pytorch_grad_cam, method)(network, [find_layer(network, scene.layer)]) as cam:
        return torch.from_numpy(cam(scene.tensor, [target]))[None]


def pytorch_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute the original Grad-CAM by pytorch-grad-cam."""
    return of_pytorch_grad_cam("GradCAM", network, scene, lesion)


def pytorch_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute pytorch-grad-cam's Grad-CAM++ of a class: one weight for each feature map."""
    return of_pytorch_grad_cam("GradCAMPlusPlus", network, scene, lesion)


def pytorch_hirescam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute HiResCAM: a weight for each voxel as in Eq. 8, but it is the plain gradient."""
    return of_pytorch_grad_cam("HiResCAM", network, scene, lesion)


def of_torchcam(
    method: str, network: nn.Module, scene: Scene, lesion: Instance, **options: Any
) -> Tensor:
    """Compute a map by torch-cam: of any function of the logits, by default scaled to 0 to 1."""
    import torchcam.methods

    mask = torch.from_numpy(lesion.mask(scene.image.shape[2:]))
    with getattr(torchcam.methods, method)(network, scene.layer) as cam:
        logits = network(scene.tensor)
        (heat,) = cam(
            scores=logits, targets=lambda one: one[lesion.class_index][mask].sum(), **options
        )
    return scene.upsampled(heat[None])


def torchcam_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute torch-cam's GradCAM by default: scaled."""
    return of_torchcam("GradCAM", network, scene, lesion)


def torchcam_gradcam_as_it_is(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute torch-cam's GradCAM without scaling."""
    return of_torchcam("GradCAM", network, scene, lesion, normalized=False)


def torchcam_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Compute torch-cam's GradCAMpp without scaling: one weight for each feature map."""
    return of_torchcam("GradCAMpp", network, scene, lesion, normalized=False)
