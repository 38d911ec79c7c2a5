"""Readout: the map from a network's coarse logits to logits on the grid of the instances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Readout:
    """A linear map from coarse logits to logits on the output grid, axis by axis.

    It can be any separable interpolation, crop or padding, or a composition of these. A logit at a
    voxel is a weighted sum of a few coarse logits, and its row is the same sum of their rows.

    Parameters
    ----------
    matrices : tuple of Tensor of shape (class or 1, out, coarse)
        One for each axis. If its leading size is 1, it is the same for all classes.
    """

    matrices: tuple[Float[Tensor, "_ _ _"], ...]

    @classmethod
    def linear(cls, coarse: Sequence[int], shape: Sequence[int]) -> "Readout":
        """Build a linear interpolation, like `functional.interpolate` without aligned corners."""
        return cls(tuple(_linear(n, size)[None] for n, size in zip(coarse, shape, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the output grid."""
        return tuple(one.shape[1] for one in self.matrices)

    @property
    def coarse_shape(self) -> tuple[int, ...]:
        """The shape of the grid of coarse logits."""
        return tuple(one.shape[2] for one in self.matrices)

    def then(self, other: "Readout") -> "Readout":
        """Return the composition of two maps: first this one, then the other."""
        pairs = zip(self.matrices, other.matrices, strict=True)
        return Readout(tuple(second @ first for first, second in pairs))

    def slab(self, start: int, stop: int) -> "Readout":
        """Return the same map to a slab of the output grid along its first axis."""
        first, *others = self.matrices
        return Readout((first[:, start:stop], *others))

    def __call__(self, coarse: Float[Tensor, "1 class *coarse"]) -> Float[Tensor, "1 class *out"]:
        """Compute the logits on the output grid; differentiable."""
        values = coarse
        for axis, matrix in enumerate(self.matrices, start=2):
            # Axis last, one product per class: (class, rest, coarse) @ (class, coarse, out).
            moved = values[0].movedim(axis - 1, -1)
            mapped = moved.reshape(len(moved), -1, moved.shape[-1]) @ matrix.to(values).transpose(
                1, 2
            )
            values = mapped.reshape(*moved.shape[:-1], -1).movedim(-1, axis - 1)[None]
        return values

    def at(
        self,
        coarse: Float[Tensor, "1 class *coarse"],
        voxels: Int[np.ndarray, "voxel axis"],
        classes: Iterable[int],
    ) -> Float[Tensor, "voxel _"]:
        """Compute the logits of some classes at some output voxels; differentiable.

        At most one class at a time is held on the whole output grid.
        """
        where = tuple(torch.from_numpy(voxels.T))
        found = [self._of(index)(coarse[:, index : index + 1])[0, 0][where] for index in classes]
        return torch.stack(found, dim=1)

    def adjoint(
        self,
        voxels: Int[np.ndarray, "voxel axis"],
        weights: Float[Tensor, "voxel class"],
        coarse: Sequence[int],
    ) -> Float[Tensor, "1 class *coarse"]:
        """Compute the gradient of weighted logits at some output voxels, for the coarse logits.

        Parameters
        ----------
        coarse : sequence of int
            The shape of the coarse logits, (1, class, *coarse).
        """
        classes = torch.nonzero(weights.any(dim=0)).flatten().tolist() or [0]  # others weigh 0
        logits = weights.new_zeros(coarse, requires_grad=True)
        with torch.enable_grad():
            chosen = self.at(logits, voxels, classes)
        return torch.autograd.grad(chosen, logits, weights[:, classes])[0]

    def _of(self, class_index: int) -> "Readout":
        """Return the map of one class."""
        own = slice(class_index, class_index + 1)
        return Readout(tuple(one[own] if len(one) > 1 else one for one in self.matrices))

    def weights(
        self, voxels: Int[np.ndarray, "voxel axis"], class_index: int
    ) -> tuple[Int[np.ndarray, "cell axis"], csr_array]:
        """Find the coarse logits that determine some output voxels, and their weights.

        Returns
        -------
        cells : ndarray of shape (cell, axis)
            Positions in the coarse logits, in C order.
        weights : sparse array of shape (voxel, cell)
            An output voxel's logit is the sum of the cells' logits with these weights.
        """
        parts = [
            _along(matrix[class_index if len(matrix) > 1 else 0].cpu().numpy(), index)
            for matrix, index in zip(self.matrices, voxels.T, strict=True)
        ]
        strides = [prod(self.coarse_shape[axis + 1 :]) for axis in range(len(parts))]
        places = [place * stride for (place, _), stride in zip(parts, strides, strict=True)]
        cell = reduce(_outer_sum, places)
        weight = reduce(_outer_product, [factor for _, factor in parts])
        rows = np.repeat(np.arange(len(voxels)), cell.shape[1])
        used = weight.ravel() != 0
        found, column = np.unique(cell.ravel()[used], return_inverse=True)
        matrix = csr_array(
            (weight.ravel()[used], (rows[used], column)), shape=(len(voxels), len(found))
        )
        return np.stack(np.unravel_index(found, self.coarse_shape), axis=1), matrix


def _linear(size: int, out: int) -> Float[Tensor, "out coarse"]:
    """Build the matrix of linear interpolation along one axis."""
    unit = torch.eye(size)[None]  # one channel for each cell
    return functional.interpolate(unit, size=out, mode="linear")[0].T


def _along(
    matrix: Float[np.ndarray, "out coarse"], index: Int[np.ndarray, " voxel"]
) -> tuple[Int[np.ndarray, "voxel few"], Float[np.ndarray, "voxel few"]]:
    """Find the cells along one axis that each voxel reads, and their weights, padded with 0."""
    few = max(int((matrix != 0).sum(axis=1).max()), 1)
    cells = np.argsort(matrix == 0, axis=1, kind="stable")[:, :few]
    return cells[index], np.take_along_axis(matrix, cells, axis=1)[index]


def _outer_sum(
    first: Int[np.ndarray, "voxel a"], second: Int[np.ndarray, "voxel b"]
) -> Int[np.ndarray, "voxel ab"]:
    return (first[:, :, None] + second[:, None, :]).reshape(len(first), -1)


def _outer_product(
    first: Float[np.ndarray, "voxel a"], second: Float[np.ndarray, "voxel b"]
) -> Float[np.ndarray, "voxel ab"]:
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)
