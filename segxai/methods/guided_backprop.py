"""Captum's guided backpropagation, with a warning where it would be plain gradient."""

import captum.attr
from torch import nn

from segxai.errors import warn


class GuidedBackprop(captum.attr.GuidedBackprop):
    """Guided backpropagation that warns where it has no effect.

    Captum's version acts on `nn.ReLU` modules alone: in a network of PReLU, LeakyReLU or
    functional ReLU it silently yields the plain gradient.

    Parameters
    ----------
    model : nn.Module
        Such as `InstanceScore(model, instance)`.

    Warns
    -----
    SegxaiWarning
        If the model has no `nn.ReLU`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not any(isinstance(module, nn.ReLU) for module in model.modules()):
            warn("the network has no nn.ReLU: guided backpropagation is its plain gradient here")
