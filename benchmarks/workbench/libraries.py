"""Libraries: the map of a lesion as each of them makes it, by the name of its class.

A call imports its library itself, so that one that is missing or broken takes no other with it.
Where a library explains a class only, it is given `InstanceScore` or `Summed`, which make the
lesion the only class.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segxai import Instance, InstanceScore
from segxai.methods.layers import find_layer
from workbench.references import NOISE, Scene, Summed


def segxai_mean(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Signed, and what the other ways are to be."""
    from segxai import InstanceGradient

    return InstanceGradient(network, "mean").attribute(scene.tensor, instance=lesion)


def captum_saliency(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """As it comes: absolute values."""
    from captum.attr import Saliency

    return Saliency(InstanceScore(network, lesion)).attribute(scene.tensor.requires_grad_())


def captum_saliency_signed(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Told to keep the sign."""
    from captum.attr import Saliency

    saliency = Saliency(InstanceScore(network, lesion))
    return saliency.attribute(scene.tensor.requires_grad_(), abs=False)


def monai_gradient_of_class(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """As it comes: all voxels of the class, summed."""
    from monai.visualize import VanillaGrad

    return VanillaGrad(network)(scene.tensor, index=lesion.class_index)


def monai_gradient(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Around the lesion's summed logits, so larger by the number of voxels."""
    from monai.visualize import VanillaGrad

    return VanillaGrad(Summed(network, lesion))(scene.tensor, index=0)


def segxai_smoothgrad(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Signed; its noise can be repeated."""
    from segxai import InstanceGradient, SeededNoiseTunnel

    tunnel = SeededNoiseTunnel(InstanceGradient(network, "mean"))
    return tunnel.attribute(
        scene.tensor, nt_samples=scene.copies, stdevs=scene.noise, instance=lesion
    )


def captum_smoothgrad(
    network: nn.Module, scene: Scene, lesion: Instance, **saliency: Any
) -> Tensor:
    """As it comes: the mean of absolute values."""
    from captum.attr import NoiseTunnel, Saliency

    return NoiseTunnel(Saliency(InstanceScore(network, lesion))).attribute(
        scene.tensor,
        nt_samples=scene.copies,
        nt_samples_batch_size=1,  # its default holds the graphs of all copies at once
        stdevs=scene.noise,
        **saliency,
    )


def captum_smoothgrad_signed(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Told to keep the sign."""
    return captum_smoothgrad(network, scene, lesion, abs=False)


def monai_smoothgrad(network: nn.Module, scene: Scene, lesion: Instance, **options: Any) -> Tensor:
    """As it comes: the root of the sum of squares, over the number of copies."""
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
    """Told to keep the sign."""
    return monai_smoothgrad(network, scene, lesion, magnitude=False)


def segxai_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Eqs. 8 to 10."""
    from segxai import InstanceGradCamPlusPlus

    layer = find_layer(network, scene.layer)
    return InstanceGradCamPlusPlus(network, layer).attribute(scene.tensor, instance=lesion)


def captum_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """With ReLU, which it leaves out unless told."""
    from captum.attr import LayerGradCam

    method = LayerGradCam(Summed(network, lesion), find_layer(network, scene.layer))
    return scene.upsampled(method.attribute(scene.tensor, target=0, relu_attributions=True))


def monai_gradcam_of_class(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """As it comes: of the class, mapped to 1 for the smallest and 0 for the largest."""
    from monai.visualize import GradCAM

    return GradCAM(network, scene.layer)(scene.tensor, class_idx=lesion.class_index)


def monai_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Around the lesion's summed logits; mapped as above."""
    from monai.visualize import GradCAM

    wrapped = Summed(network, lesion)
    return GradCAM(wrapped, f"score.model.{scene.layer}")(scene.tensor, class_idx=0)


def monai_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Multiplies by exp(score), which overflows where logits are summed."""
    from monai.visualize import GradCAMpp

    wrapped, layer = Summed(network, lesion), f"score.model.{scene.layer}"
    return GradCAMpp(wrapped, layer, postprocessing=lambda heat: heat)(scene.tensor, class_idx=0)


def monai_gradcam_as_it_is(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Without the mapping."""
    from monai.visualize import GradCAM

    wrapped, layer = Summed(network, lesion), f"score.model.{scene.layer}"
    return GradCAM(wrapped, layer, postprocessing=lambda heat: heat)(scene.tensor, class_idx=0)


def of_pytorch_grad_cam(method: str, network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """It has a target for a mask; each map is scaled to reach from 0 to 1."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

    mask = lesion.mask(scene.image.shape[2:]).astype(np.float32)
    target = SemanticSegmentationTarget(lesion.class_index, mask)
    with getattr(pytorch_grad_cam, method)(network, [find_layer(network, scene.layer)]) as cam:
        return torch.from_numpy(cam(scene.tensor, [target]))[None]


def pytorch_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """The original Grad-CAM."""
    return of_pytorch_grad_cam("GradCAM", network, scene, lesion)


def pytorch_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """One weight for each feature map: of a class."""
    return of_pytorch_grad_cam("GradCAMPlusPlus", network, scene, lesion)


def pytorch_hirescam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Weights that stay at their voxel, as in Eq. 8, but are the plain gradients."""
    return of_pytorch_grad_cam("HiResCAM", network, scene, lesion)


def of_torchcam(
    method: str, network: nn.Module, scene: Scene, lesion: Instance, **options: Any
) -> Tensor:
    """It takes any function of the logits; scales to 0 to 1 unless told; on the layer."""
    import torchcam.methods

    mask = torch.from_numpy(lesion.mask(scene.image.shape[2:]))
    with getattr(torchcam.methods, method)(network, scene.layer) as cam:
        logits = network(scene.tensor)
        (heat,) = cam(
            scores=logits, targets=lambda one: one[lesion.class_index][mask].sum(), **options
        )
    return scene.upsampled(heat[None])


def torchcam_gradcam(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """As it comes: scaled."""
    return of_torchcam("GradCAM", network, scene, lesion)


def torchcam_gradcam_as_it_is(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Not scaled."""
    return of_torchcam("GradCAM", network, scene, lesion, normalized=False)


def torchcam_gradcampp(network: nn.Module, scene: Scene, lesion: Instance) -> Tensor:
    """Not scaled; one weight for each feature map."""
    return of_torchcam("GradCAMpp", network, scene, lesion, normalized=False)
