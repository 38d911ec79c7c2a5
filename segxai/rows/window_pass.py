"""Passes: the forward pass of a window with its graph, and the backward passes of its rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import segxai.rows.rules  # noqa: F401  # the windowed engine's rules register themselves
from segxai.errors import SegxaiError, one_line, option
from segxai.geometry import Box
from segxai.rows.batch import RowBatch
from segxai.rows.cotangent import CannotCarryError, Cotangent, Tape
from segxai.rows.voxel_order import compactly
from segxai.segment.failures import failures_of_network, is_out_of_memory
from segxai.segment.predictor import Predictor
from segxai.segment.readout import Readout

Voxels = Int[np.ndarray, "voxel axis"]
Members = Int[np.ndarray, " member"]  # some of an instance's voxels, by number
BLOCK = 16  # voxels along an axis whose rows share a batch: the total stride of most U-Nets


@dataclass(frozen=True)
class Pass:
    """One window's forward pass with its graph, ready to be differentiated many times.

    Voxels are those of the grid of instances: the image's, or a readout's.
    """

    window: Box
    leaf: Float[Tensor, "1 channel *inside"]
    logits: Float[Tensor, "1 class *own"]
    share: Float[Tensor, "*own"]
    inside: Box  # the part of the window on the grid, which the leaf covers
    readout: Readout | None = None

    @property
    def outside(self) -> Box:
        """The box that the logits cover: `inside`, or all of a coarse predictor's logits."""
        size = tuple(self.logits.shape[2:])
        return self.inside if size == self.inside.size else Box.whole(size)

    def index(self, voxels: Voxels) -> Int[Tensor, " voxel"]:
        """Return the positions of output voxels in the flattened logits."""
        return torch.from_numpy(self.outside.flat(voxels))

    def outputs(
        self, voxels: Voxels, classes: Sequence[int] | None = None
    ) -> Float[Tensor, "voxel _"]:
        """Return the window's own logits of some classes, or of all, at voxels; differentiable."""
        chosen = range(self.logits.shape[1]) if classes is None else classes
        if self.readout is not None:
            return self.readout.at(self.logits, voxels, chosen)
        return self.logits[0].flatten(1)[:, self.index(voxels)].T[:, list(chosen)]

    def shares(self, voxels: Voxels) -> Float[Tensor, "voxel 1"]:
        """Return the window's share in the blended logits of grid voxels, on the CPU."""
        if self.readout is not None:
            return torch.ones(len(voxels), 1)
        return self.share.flatten()[self.index(voxels), None]

    def cotangent(
        self, voxels: Voxels, weights: Float[Tensor, "voxel class"]
    ) -> Float[Tensor, "1 class *own"]:
        """Build the input of the backward pass: the weights at grid voxels, 0 elsewhere."""
        if self.readout is not None:
            return self.readout.adjoint(voxels, weights.to(self.logits), self.logits.shape)
        cotangent = self.logits.new_zeros(self.logits.shape)  # contiguous: flatten is a view
        cotangent[0].flatten(1)[:, self.index(voxels)] = weights.T.to(cotangent)
        return cotangent

    def gradient(
        self, voxels: Voxels, weights: Float[Tensor, "voxel class"]
    ) -> Float[Tensor, "channel *inside"]:
        """Compute the gradient of the sum of the weighted logits of grid voxels."""
        cotangent = self.cotangent(voxels, weights)
        return gradient_of(self.logits, self.leaf, cotangent, retain_graph=True)[0]

    def carry(
        self,
        voxels: Voxels,
        weights: Float[Tensor, "voxel class"],
        tape: Tape,
        *,
        summed: bool = False,
    ) -> RowBatch:
        """Carry the weights of grid voxels back to the image, on the box that they can reach.

        Parameters
        ----------
        summed : bool
            Whether they make a single row, their sum, instead of a row each.

        Raises
        ------
        CannotCarryError
            If the backward pass writes in place, or fails.
        """
        local = self.outside.local(voxels)
        box = Box.around(local)
        rows = 1 if summed else len(voxels)
        row = torch.zeros(rows, dtype=torch.long) if summed else torch.arange(rows)
        values = self.logits.new_zeros(rows, self.logits.shape[1], *box.size)
        values[row, :, *torch.from_numpy(box.local(local)).T] = weights.to(values)
        cotangent = Cotangent(values, box.start, self.logits.shape)
        tape.follow(cotangent)
        try:
            found = torch.autograd.grad(self.logits, self.leaf, cotangent, retain_graph=True)[0]
        except Exception as error:  # somebody else's code: whatever it raises
            _raise_cannot_carry(error)
        gradient = cast(Cotangent, found)
        if gradient.start is None:
            return RowBatch(gradient.rows[:, 0], self.inside.start)
        moved = zip(gradient.start, self.inside.start, strict=True)
        return RowBatch(gradient.rows, tuple(a + b for a, b in moved))


def gradient_of(
    output: Tensor,
    leaf: Tensor,
    cotangent: Tensor | None = None,
    *,
    retain_graph: bool = False,
    is_grads_batched: bool = False,
) -> Tensor:
    """Compute a gradient of the network's output by `torch.autograd.grad`.

    Raises
    ------
    NetworkError
        If the network's backward pass fails.
    """
    with failures_of_network("in its backward pass"):
        return torch.autograd.grad(
            output, leaf, cotangent, retain_graph, is_grads_batched=is_grads_batched
        )[0]


def _raise_cannot_carry(error: Exception) -> NoReturn:
    """Raise an error of the network in its backward pass as one that the dense way may not have."""
    frames = extract_tb(error.__traceback__)
    is_own = Path(frames[-1].filename).is_relative_to(Path(__file__).parent)
    if is_own or isinstance(error, SegxaiError) or is_out_of_memory(error):
        raise error
    raise CannotCarryError(
        "the windowed engine cannot carry rows through the network's backward pass: "
        f"{type(error).__name__}: {one_line(error)}; use {option('engine', 'dense')}"
    ) from error


class OwnMemory(TorchFunctionMode):
    """A mode in which the output of an instance normalisation has its own memory.

    torch returns a view, which makes every later in-place operation on it (`out += residual`,
    `LeakyReLU(inplace=True)`) also write into cotangents. Values stay the same.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        return found.clone() if func is functional.instance_norm else found


def forward_pass(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    window: Box,
    *,
    has_graph: bool = True,
) -> Pass:
    """Compute one window's logits as a function of its own crop of the image.

    Without a graph they cannot be differentiated, and take less memory.
    """
    inside = window.inside(predictor.layout.shape)
    leaf = image[inside.index].detach().requires_grad_(has_graph)
    with torch.set_grad_enabled(has_graph), OwnMemory():
        logits = predictor.window_logits(leaf, window)
    if has_graph and not logits.requires_grad:
        raise SegxaiError(
            "the network's output has no gradient with respect to the image: something in its "
            "forward pass cuts it off (torch.no_grad, inference_mode, detach); remove that"
        )
    own = predictor.keeps_own_logits
    share = torch.ones(logits.shape[2:]) if own else predictor.layout.share(window)
    return Pass(window, leaf, logits, share, inside, predictor.readout)


def dense_rows(one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"]) -> RowBatch:
    """Compute gradients of the weighted logits of some voxels in a window, on all of the window."""
    weighted = weights * one.shares(voxels)
    if len(voxels) == 1:
        return RowBatch(one.gradient(voxels, weighted)[None], one.inside.start)
    each = [one.cotangent(v[None], w[None]) for v, w in zip(voxels, weighted, strict=True)]
    gradients = gradient_of(
        one.logits, one.leaf, torch.stack(each), retain_graph=True, is_grads_batched=True
    )
    return RowBatch(gradients[:, 0], one.inside.start)


def windowed_rows(
    one: Pass, voxels: Voxels, weights: Float[Tensor, "voxel class"], tape: Tape | None = None
) -> RowBatch:
    """Compute the same gradients, on the box where the operations let them differ from 0.

    Raises
    ------
    CannotCarryError
        If the backward pass writes in place, or fails.
    """
    return one.carry(voxels, weights * one.shares(voxels), tape or Tape())


def blocks_of(voxels: Voxels, window: Box) -> Voxels:
    """Return the block of a window in which each voxel lies; rows of a block have similar boxes."""
    return window.local(voxels) // BLOCK


def in_blocks(voxels: Voxels, window: Box, batch: int) -> Iterator[Members]:
    """Yield batches of nearby voxels of each block, as indices."""
    _, block = np.unique(blocks_of(voxels, window), axis=0, return_inverse=True)
    for number in range(int(block.max()) + 1):
        members = compactly(voxels, np.flatnonzero(block.ravel() == number))
        yield from (members[n : n + batch] for n in range(0, len(members), batch))
