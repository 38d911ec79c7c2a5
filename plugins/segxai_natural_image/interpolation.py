"""Coarse logits: take off a network's own last interpolation, and hand it to the readout."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from segxai import Case, Predictor, Readout, frozen, logits_of, whole_image

SAME = 1e-5  # of the largest logit: rounding between an interpolation and its matrices


@dataclass(frozen=True)
class Step:
    """One interpolation that a network did: from where, to where, and how."""

    before: Tensor
    after: Tensor
    aligned: bool

    def readout(self) -> Readout:
        """The same as a readout."""
        shapes = zip(self.before.shape[2:], self.after.shape[2:], strict=True)
        return Readout(tuple(_bilinear(n, size, self.aligned)[None] for n, size in shapes))

    def is_its_own(self) -> bool:
        """Whether the readout does what the network did."""
        found = self.readout()(self.before)
        return bool((found - self.after).abs().max() <= SAME * self.after.abs().max())


class Watch(TorchFunctionMode):
    """Writes down the bilinear interpolations that are done while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func is functional.interpolate and kwargs.get("mode") == "bilinear":
            before = args[0] if args else kwargs["input"]
            self.steps.append(Step(before, found, bool(kwargs.get("align_corners"))))
        return found


class CoarseLogits(nn.Module):
    """A network without the interpolation that ends it, if one does: fewer and cheaper rows.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, y, x) to logits, alone or among other outputs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "1 channel y x"]) -> Float[Tensor, "1 class _ _"]:
        """Logits as they are before the network's last interpolation."""
        logits, step = self.watched(image)
        return logits if step is None else step.before

    def watched(
        self, image: Float[Tensor, "1 channel y x"]
    ) -> tuple[Float[Tensor, "1 class _ _"], Step | None]:
        """The network's own logits, and the interpolation that made them, if one did."""
        with Watch() as watch:
            logits = logits_of(self.network(image))
        return logits, next((one for one in watch.steps if one.after is logits), None)


def predict_coarsely(network: nn.Module, case: Case) -> Predictor:
    """The network on the whole picture; each pixel's logits as its user would interpolate them.

    That is: as the network itself does, then bilinearly from its input's size, or what its logits
    have, to the picture's.
    """
    if not isinstance(network, CoarseLogits):
        raise ValueError("the network was not loaded by this plugin")
    layout, shape = whole_image(case.grid.shape), case.domain_grid.shape
    image = torch.from_numpy(case.image)[None].to(next(network.parameters()).device)
    with torch.no_grad(), frozen(network):
        logits, step = network.watched(image)
    to_picture = Readout.linear(tuple(logits.shape[2:]), shape)
    if step is None:
        return Predictor(network, layout, readout=to_picture)
    if not step.is_its_own():  # interpolated in some other way: leave it to the network
        return Predictor(network.network, layout, readout=to_picture)
    return Predictor(network, layout, readout=step.readout().then(to_picture))


def nearest(size: int, out: int) -> Float[Tensor, "out coarse"]:
    """The matrix of taking the nearest along one axis, as `torch.nn.functional.interpolate`."""
    return functional.interpolate(torch.eye(size)[None], size=out, mode="nearest")[0].T


def _bilinear(size: int, out: int, aligned: bool) -> Float[Tensor, "out coarse"]:
    unit = torch.eye(size)[None]
    return functional.interpolate(unit, size=out, mode="linear", align_corners=aligned)[0].T
