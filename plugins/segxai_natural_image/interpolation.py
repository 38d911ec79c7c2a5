"""Coarse logits: a network's own last interpolation is removed and left to the readout."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from segxai import Case, InstanceCriteria, Predictor, Readout, frozen, logits_of, whole_image

SAME = 1e-5  # of the largest logit: rounding between an interpolation and its matrices


@dataclass(frozen=True)
class Step:
    """One interpolation in a network: its input, its output, and whether it aligns corners."""

    before: Tensor
    after: Tensor
    aligned: bool

    def readout(self) -> Readout:
        """Build the readout that does the same."""
        shapes = zip(self.before.shape[2:], self.after.shape[2:], strict=True)
        return Readout(tuple(_bilinear(n, size, self.aligned)[None] for n, size in shapes))

    def is_its_own(self) -> bool:
        """Tell whether the readout does what the network did."""
        found = self.readout()(self.before)
        return bool((found - self.after).abs().max() <= SAME * self.after.abs().max())


class Watch(TorchFunctionMode):
    """A mode that records the bilinear interpolations done while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and record it if it interpolates bilinearly."""
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func is functional.interpolate and kwargs.get("mode") == "bilinear":
            before = args[0] if args else kwargs["input"]
            self.steps.append(Step(before, found, bool(kwargs.get("align_corners"))))
        return found


class CoarseLogits(nn.Module):
    """A network without its final interpolation, if it has one: fewer and cheaper rows.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, y, x) to logits, alone or among other outputs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "1 channel y x"]) -> Float[Tensor, "1 class _ _"]:
        """Compute the logits as they are before the network's last interpolation."""
        logits, step = self.watched(image)
        return logits if step is None else step.before

    def watched(
        self, image: Float[Tensor, "1 channel y x"]
    ) -> tuple[Float[Tensor, "1 class _ _"], Step | None]:
        """Compute the network's own logits, and find the interpolation that made them, if any."""
        with Watch() as watch:
            logits = logits_of(self.network(image))
        return logits, next((one for one in watch.steps if one.after is logits), None)


def predict_coarsely(network: nn.Module, case: Case, criteria: InstanceCriteria) -> Predictor:
    """Build a predictor of the whole picture that interpolates logits as the model's users do.

    The network's own last interpolation comes first, if it has one; then logits are interpolated
    bilinearly to the size of the picture.
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
    """Build the matrix of torch's nearest-neighbour interpolation along one axis."""
    return functional.interpolate(torch.eye(size)[None], size=out, mode="nearest")[0].T


def _bilinear(size: int, out: int, aligned: bool) -> Float[Tensor, "out coarse"]:
    unit = torch.eye(size)[None]
    return functional.interpolate(unit, size=out, mode="linear", align_corners=aligned)[0].T
