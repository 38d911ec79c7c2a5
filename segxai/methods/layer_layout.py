"""Layouts of layers: where a layer's output has its feature maps, and where its space."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from segxai.errors import SegxaiError, option, unknown_name
from segxai.text import format_shape

KINDS = ("channels_first", "channels_last", "tokens")
# Their feature maps are the second axis by definition. Exactly these: subclasses move axes.
CHANNELS_FIRST = {
    getattr(nn, f"{name}{axes}d")
    for name in (
        "Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "MaxPool", "AvgPool",
        "AdaptiveMaxPool", "AdaptiveAvgPool",
    )
    for axes in (1, 2, 3)
} | {nn.GroupNorm, nn.Upsample, nn.PixelShuffle}  # fmt: skip
MOST_LEADING = 8  # tokens before those of the image: a class token, registers


@dataclass(frozen=True)
class LayerLayout:
    """Where a layer's output has its feature maps, and where its space.

    Parameters
    ----------
    kind : {"channels_first", "channels_last", "tokens"}
        (1, map, *layer), (1, *layer, map) or (1, token, map).
    grid : tuple of int
        For tokens: their number along each axis, the last axis fastest. If the output has more,
        the first ones belong to no voxel and are left out, as a class token does.
    """

    kind: str
    grid: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: str) -> "LayerLayout":
        """Parse a layout: "channels_first", "channels_last", "tokens" or "tokens:14,14".

        Raises
        ------
        SegxaiError
            If it is none of these.
        """
        kind, _, sizes = text.partition(":")
        if kind not in KINDS:
            raise unknown_name("layer layout", kind, KINDS)
        parts = [part.strip() for part in sizes.split(",")] if sizes else []
        if not all(part.isdecimal() and int(part) for part in parts) or (
            parts and kind != "tokens"
        ):
            raise SegxaiError(
                f"{option('layer_layout', text)}: give {', '.join(KINDS)}, or the tokens along "
                "each axis, such as tokens:14,14"
            )
        return cls(kind, tuple(map(int, parts)))

    def __str__(self) -> str:
        """Write the layout as `of` reads it."""
        return f"{self.kind}:{','.join(map(str, self.grid))}" if self.grid else self.kind

    def maps(self, output: Float[Tensor, "1 *any"]) -> Float[Tensor, "1 map *layer"]:
        """Return a layer's output, or its gradient, with its feature maps first."""
        if self.kind == "channels_last":
            return output.movedim(-1, 1)
        if self.kind == "tokens":
            of_voxels = output[:, output.shape[1] - prod(self.grid) :]
            return of_voxels.transpose(1, 2).reshape(1, -1, *self.grid)
        return output

    def fitted(self, shape: Sequence[int], window: Sequence[int]) -> "LayerLayout":
        """Return the layout for outputs of this shape: tokens get their grid.

        Raises
        ------
        SegxaiError
            If no such output can have this layout.
        """
        space = _space(shape, window)
        if self.kind not in _possible(shape, space):
            raise SegxaiError(f"{_described(shape, window)} is not {self.kind}")
        if self.kind != "tokens":
            return self
        if not self.grid:
            return LayerLayout("tokens", grid_of_tokens(shape[1], space))
        if len(self.grid) != len(space) or prod(self.grid) > shape[1]:
            raise SegxaiError(
                f"{_described(shape, window)} has no tokens of {format_shape(self.grid)}"
            )
        return self


def find_layout(
    layer: nn.Module,
    shape: Sequence[int],
    window: Sequence[int],
    other: Callable[[], Sequence[int] | None],
) -> LayerLayout:
    """Find the layout of a layer from its class, or from the shapes of its outputs.

    Parameters
    ----------
    shape : sequence of int
        Shape of the layer's output for a window of the size `window`.
    other : callable
        Returns the same for a window of another size, or None if the network takes none: feature
        maps keep their number, and space does not.

    Raises
    ------
    SegxaiError
        If the layout cannot be told, or the output has no space.
    """
    space = _space(shape, window)
    kinds = _possible(shape, space)
    if not kinds:
        raise SegxaiError(
            f"{_described(shape, window)} does not have the axes of an image: one for the "
            f"feature maps, and {len(window)} of space, or one of tokens"
        )
    if kinds != ("tokens",) and type(layer) in CHANNELS_FIRST:
        return LayerLayout("channels_first")
    found = _moved(kinds, shape, other()) or _fitting(kinds, shape, space)
    if len(found) != 1:
        either = " or ".join(kinds) if len(kinds) > 1 else "tokens along either axis"
        raise SegxaiError(
            f"{_described(shape, window)} could be {either}; say which with "
            f"{option('layer_layout', kinds[-1])}"
        )
    return LayerLayout(found[0]).fitted(shape, window)


def grid_of_tokens(
    count: int, window: Sequence[int], leading: int = MOST_LEADING
) -> tuple[int, ...]:
    """Find the grid of so many tokens: patches of the same size along each axis of the window.

    Patches that divide the window are preferred, then grids that leave out some leading tokens,
    then patches that do not divide it.

    Parameters
    ----------
    leading : int
        How many tokens may be left out.

    Raises
    ------
    SegxaiError
        If there is none, or more than one.
    """
    exact = {tuple(n // step for n in window) for step in _steps(window)}
    rounded = {tuple(max(n // step, 1) for n in window) for step in range(1, max(window) + 1)}
    rounded |= {tuple(-(-n // step) for n in window) for step in range(1, max(window) + 1)}
    found: list[tuple[int, ...]] = []
    for grids, most in ((exact, 0), (exact, leading), (rounded, 0)):
        found = found or [grid for grid in grids if 0 <= count - prod(grid) <= most]
    if len(found) != 1:
        known = " or ".join(format_shape(grid) for grid in sorted(found)) or "no grid"
        raise SegxaiError(
            f"{count} tokens of a window of {format_shape(window)} could be {known}; say which "
            f"with {option('layer_layout', 'tokens:N,N')}"
        )
    return found[0]


def _steps(window: Sequence[int]) -> Iterator[int]:
    """Yield the sizes of patches that divide a window along each axis."""
    return (step for step in range(1, min(window) + 1) if all(n % step == 0 for n in window))


def _space(shape: Sequence[int], window: Sequence[int]) -> tuple[int, ...]:
    """Return the window's size along the axes that a layer can have.

    A network of slices sees no axis along which the window is one voxel thick.
    """
    if len(shape) == len(window) + 2:
        return tuple(window)
    return tuple(n for n in window if n > 1) or tuple(window)


def _possible(shape: Sequence[int], space: Sequence[int]) -> tuple[str, ...]:
    """List the layouts that an output with so many axes can have."""
    if len(shape) < 3 or shape[0] != 1:
        return ()
    if len(shape) == len(space) + 2:
        return ("channels_first", "channels_last")
    return ("tokens",) if len(shape) == 3 else ()


def _moved(
    kinds: tuple[str, ...], shape: Sequence[int], other: Sequence[int] | None
) -> tuple[str, ...]:
    """Tell the layout by the axis whose size changed with the window's; empty if that is moot."""
    if other is None or len(other) != len(shape) or other[0] != 1:
        return ()
    second, last = shape[1] != other[1], shape[-1] != other[-1]
    if second == last:
        return ()
    if kinds == ("tokens",) and last:
        raise SegxaiError(
            f"an output of shape {tuple(shape)} has its tokens last: name the layer before or "
            "after it, whose output is an image"
        )
    return kinds[-1:] if second else kinds[:1]


def _fitting(kinds: tuple[str, ...], shape: Sequence[int], space: Sequence[int]) -> tuple[str, ...]:
    """Tell the layout by the sizes of the axes: those of space are the window's, over a stride.

    One stride that divides all axes is preferred, then one that needs rounding, then any strides.
    """
    if kinds == ("tokens",):
        is_clear = _is_grid(shape[1], space) and not _is_grid(shape[2], space, leading=0)
        return kinds if is_clear else ()
    sizes = {kind: shape[2:] if kind == "channels_first" else shape[1:-1] for kind in kinds}
    whole = {
        kind: [n / size if n % size == 0 else None for size, n in zip(axes, space, strict=True)]
        for kind, axes in sizes.items()
    }
    rounded = {
        kind: [_strides(size, n) for size, n in zip(axes, space, strict=True)]
        for kind, axes in sizes.items()
    }
    one_divides = tuple(k for k in kinds if None not in whole[k] and len(set(whole[k])) == 1)
    one_rounds = tuple(kind for kind in kinds if set.intersection(*rounded[kind]))
    return one_divides or one_rounds or tuple(kind for kind in kinds if all(rounded[kind]))


def _strides(size: int, n: int) -> set[int]:
    """Return the strides by which an axis of n voxels has this size, rounded either way."""
    return {step for step in range(1, n + 1) if size in (n // step, -(-n // step))}


def _is_grid(count: int, space: Sequence[int], leading: int = MOST_LEADING) -> bool:
    try:
        return bool(grid_of_tokens(count, space, leading))
    except SegxaiError:
        return False


def _described(shape: Sequence[int], window: Sequence[int]) -> str:
    return f"an output of shape {tuple(shape)}, for a window of {format_shape(window)},"
