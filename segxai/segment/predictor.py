"""Predictor: a network and a window layout, which together make a prediction and explain it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from segxai.errors import SegxaiError
from segxai.geometry import Box
from segxai.segment.failures import NetworkError, failures_of_network
from segxai.segment.logits import logits_of
from segxai.segment.readout import Readout
from segxai.segment.windows import Layout, whole_image
from segxai.types import Activation, Instance, Progress, Quiet

SLAB = 2**24  # logits that are processed at once: 64 MiB as float32
LARGEST_STRIDE = 32  # of logits that are interpolated to the window
OF_STRIDE = "if each size must be a multiple of its stride, choose a window that fits"
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Predictor(nn.Module):
    """A network and the layout of its windows, which map an image to blended logits.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, *window) to logits (1, class, *window), alone or among other outputs.
        Logits at a half to a 32nd of the window's resolution are interpolated to it linearly.
    layout : Layout
        The windows, and how their logits are blended.
    readout : Readout, optional
        Maps the network's own logits to the grid of instances, if that is not the image's grid.
        Only for layouts of a single window.
    activation : {"softmax", "sigmoid"}
        Turns logits into probabilities.
    output : str or int, optional
        Name or number of the tensor of logits, where the network returns several; see `logits_of`.
    align_corners : bool
        Whether coarse logits are interpolated with aligned corners.
    is_coarse : bool
        Whether logits stay at the network's own resolution. `without_readout` sets it.

    Notes
    -----
    The layout is part of the predictor: another window size or overlap gives other logits and
    other rows. Windows go through the network one at a time, so that memory does not grow with
    the image and no value depends on a batch.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        *,
        readout: Readout | None = None,
        activation: Activation = "softmax",
        output: str | int | None = None,
        align_corners: bool = False,
        is_coarse: bool = False,
    ) -> None:
        super().__init__()
        if readout is not None and len(layout.windows) > 1:
            raise ValueError("a readout belongs to a layout of a single window")
        self.network = network
        self.layout = layout
        self.readout = readout
        self.activation: Activation = activation
        self.output = output
        self.align_corners = align_corners
        self.is_coarse = is_coarse

    @property
    def domain_shape(self) -> tuple[int, ...] | None:
        """The shape of the grid of instances; None where instances are of coarse logits."""
        if self.is_coarse:
            return None
        return self.layout.shape if self.readout is None else self.readout.shape

    @property
    def keeps_own_logits(self) -> bool:
        """Whether a window's logits are the network's own, on its own grid."""
        return self.readout is not None or self.is_coarse

    def covers(
        self, window: Box, voxels: Int[np.ndarray, "voxel axis"]
    ) -> Bool[np.ndarray, " voxel"]:
        """Find the voxels of the grid of instances to which a window contributes."""
        if self.readout is not None:
            return np.ones(len(voxels), dtype=bool)
        return window.contains(voxels)

    def forward(
        self, image: Float[Tensor, "1 channel *grid"], progress: Progress | None = None
    ) -> Float[Tensor, "1 class *out"]:
        """Compute the blended logits on the whole grid, on the image's device; differentiable."""
        progress = progress or Quiet()
        progress.begin("segment", len(self.layout.windows))
        if self.readout is not None:
            return self.readout(self.coarse(image, progress)).to(image.device)
        blended: Tensor | None = None
        for window in self.layout.windows:
            inside = window.inside(self.layout.shape).index
            logits = self.window_logits(image[inside], window).to(image.device)
            if blended is None:
                blended = logits.new_zeros(logits.shape[:2] + self.layout.shape)
            blended[inside] += logits * self.layout.share(window).to(logits)
            progress.advance(1)
        if blended is None:
            raise SegxaiError("the layout has no window")
        return blended

    def slabs(
        self, image: Float[Tensor, "1 channel *grid"], progress: Progress | None = None
    ) -> Iterator[Float[Tensor, "class *slab"]]:
        """Yield the same logits in slabs along the first axis, on the CPU.

        With a readout, at most one slab is in memory at a time.
        """
        if self.readout is None:
            logits = self(image, progress)[0]
            yield from torch.split(logits, _thickness(logits.shape), dim=1)
            return
        progress = progress or Quiet()
        progress.begin("segment", 1)
        coarse = self.coarse(image, progress)
        shape = (coarse.shape[1], *self.readout.shape)
        for start in range(0, shape[1], _thickness(shape)):
            yield self.readout.slab(start, start + _thickness(shape))(coarse)[0].cpu()

    def coarse(
        self, image: Float[Tensor, "1 channel *grid"], progress: Progress | None = None
    ) -> Float[Tensor, "1 class *coarse"]:
        """Compute the network's own logits of its only window, for a readout; differentiable."""
        (window,) = self.layout.windows
        logits = self.window_logits(image[window.inside(self.layout.shape).index], window)
        (progress or Quiet()).advance(1)
        return logits

    def crop_to(self, voxels: Int[np.ndarray, "voxel axis"]) -> tuple["Predictor", Box]:
        """Crop the predictor to what determines these voxels; also return the crop's box."""
        if self.keeps_own_logits:
            return self, Box.whole(self.layout.shape)
        layout, box = self.layout.crop_to(voxels)
        return self._with(layout=layout), box

    def without_readout(self, instance: Instance) -> tuple["Predictor", Instance]:
        """Return the predictor without its readout, and the coarse logits behind an instance.

        If there is no readout, both are returned as they are.
        """
        if self.readout is None:
            return self, instance
        cells, _ = self.readout.weights(instance.row_voxels, instance.class_index)
        coarse = replace(instance, voxels=cells, sampled=None)
        return self.coarse_only(), coarse

    def coarse_only(self) -> "Predictor":
        """Return the predictor of the logits that the readout takes; itself, if it has none."""
        return self if self.readout is None else self._with(readout=None, is_coarse=True)

    def on_image(self, instance: Instance) -> Instance | None:
        """Return the instance if its voxels are the image's; None if it is on a readout's grid."""
        return instance if self.readout is None else None

    def with_network(self, network: nn.Module) -> "Predictor":
        """Return the predictor of another network, read in the same way on the same windows."""
        return self._with(network=network)

    def with_layout(self, layout: Layout) -> "Predictor":
        """Return the predictor of the same network, read in the same way, on other windows."""
        return self._with(layout=layout)

    def _with(self, **changes: Any) -> "Predictor":
        kept: dict[str, Any] = {
            "network": self.network,
            "layout": self.layout,
            "readout": self.readout,
            "activation": self.activation,
            "output": self.output,
            "align_corners": self.align_corners,
            "is_coarse": self.is_coarse,
        }
        return Predictor(**{**kept, **changes})

    def window_logits(
        self, crop: Float[Tensor, "1 channel *inside"], window: Box
    ) -> Float[Tensor, "1 class *own"]:
        """Compute the unblended logits of one window, on the part of it inside the grid.

        With a readout, or if the predictor is coarse: on all of the padded window, at the network's
        own resolution.

        Parameters
        ----------
        crop : Tensor
            The image on `window.inside(layout.shape)`; padded with 0 to the window's size here.

        Raises
        ------
        SegxaiError
            If the network fails on this size, or returns anything other than logits of this size.
        """
        logits = self._logits(self.outputs(crop, window), (*crop.shape[:2], *window.size))
        inside = window.inside(self.layout.shape)
        if inside == window or self.keeps_own_logits:
            return logits
        return logits[inside.seen_from(window).index]

    def outputs(self, crop: Float[Tensor, "1 channel *inside"], window: Box) -> Any:
        """Compute all that the network returns for one window; see `window_logits`."""
        device = next(self.network.parameters(), crop).device
        inside = window.inside(self.layout.shape)
        if inside == window:
            # A network whose first layer works in place must not write into the image.
            return self._run(crop.to(device).clone())
        before = inside.seen_from(window).start
        after = (n - a - s for n, a, s in zip(window.size, before, inside.size, strict=True))
        pairs = reversed(list(zip(before, after, strict=True)))
        return self._run(functional.pad(crop.to(device), [side for pair in pairs for side in pair]))

    def _run(self, padded: Float[Tensor, "1 channel *window"]) -> Any:
        with failures_of_network(f"on an input of shape {tuple(padded.shape)}", OF_STRIDE):
            return self.network(padded)

    def _logits(self, output: Any, shape: Sequence[int]) -> Float[Tensor, "1 class *own"]:
        """Take the logits out of all that the network returns for an input of this shape."""
        logits = logits_of(output, self.output)
        if not logits.is_floating_point():
            raise SegxaiError(
                f"the network returns labels ({logits.dtype}); segxai needs the logits that they "
                "were computed from: give the network without its argmax"
            )
        if not self.keeps_own_logits:
            logits = _to_window(logits, shape, align_corners=self.align_corners)
        return logits


def as_predictor(model: nn.Module, image: Float[Tensor, "batch channel *grid"]) -> Predictor:
    """Return a predictor as it is; wrap any other model to take the whole image at once."""
    if isinstance(model, Predictor):
        return model
    return Predictor(model, whole_image(image.shape[2:]))


def _to_window(
    logits: Float[Tensor, "*any"], shape: Sequence[int], *, align_corners: bool
) -> Float[Tensor, "1 class *window"]:
    """Return the logits at the input's spatial size, interpolated linearly if they are coarser.

    Raises
    ------
    SegxaiError
        If their size is neither the input's nor a coarser one that is supported.
    """
    if logits.shape[2:] == tuple(shape)[2:] and logits.shape[0] == 1:
        return logits
    if stride_of(logits.shape, shape) is None:
        raise NetworkError(
            f"the network maps {tuple(shape)} to {tuple(logits.shape)}; segxai needs logits (1, "
            "class, *spatial) of the same spatial size, or a half to a 32nd of it: wrap the "
            "network",
            is_of_size=True,
        )
    mode, size = LINEAR[logits.ndim - 2], tuple(shape)[2:]
    return functional.interpolate(logits, size=size, mode=mode, align_corners=align_corners)


def _thickness(shape: Sequence[int]) -> int:
    """Return how many voxels along the first axis make a slab of (class, *grid)."""
    return max(SLAB // (shape[0] * math.prod(shape[2:])), 1)


def stride_of(logits: Sequence[int], image: Sequence[int]) -> int | None:
    """Find how many voxels of the input a logit spans, the same along each axis; None if none fits.

    Only powers of two are tried. Sizes that they do not divide may be rounded up or down, as
    networks do.
    """
    if len(logits) != len(image) or logits[0] != 1:
        return None
    pairs = list(zip(logits[2:], image[2:], strict=True))
    strides = (2**power for power in range(LARGEST_STRIDE.bit_length()))
    return next(
        (
            step
            for step in strides
            if all(n in (size // step, -(-size // step)) for n, size in pairs)
        ),
        None,
    )
