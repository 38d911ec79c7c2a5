"""Inspection: what a network returns for one window of the image, and what is in doubt about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from segxai.errors import SegxaiError, option, warn
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.logits import (
    in_words,
    kind_of,
    logits_of,
    name_of_logits,
    stated_name,
    tensors_of,
)
from segxai.segment.predictor import Predictor, stride_of
from segxai.text import format_shape

# Parts of what models return that find instances themselves: those of transformers, of the papers'
# own code, and of torchvision.
OF_INSTANCES = ("class_queries_logits", "masks_queries_logits", "pred_masks", "pred_boxes", "boxes")
FEWEST = 8  # queries or prototypes
BOX = 5  # numbers of a box at least: its place, its size, and the score of a class
CHANCE = 0.5  # the span of logits that lie between 0 and 1 by chance
RANDOM = 1e-4  # by which two passes may differ, relative to the largest logit: float noise
# Interpolations whose backward pass copies where the sizes are the same, while the forward pass
# samples by the scale factor (PyTorch 2.6 to 2.15).
SCALED = {
    "UpsampleNearest1DBackward0": ("nearest", ("scales",)),
    "UpsampleNearest3DBackward0": ("nearest", ("scales_d", "scales_h", "scales_w")),
    "UpsampleBicubic2DBackward0": ("bicubic", ("scales_h", "scales_w")),
}
WRONG = 1e-6  # of a product that a forward and a backward pass agree on in float64


def inspect(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], classes: int | None = None
) -> None:
    """Run a network on one window of the image, settle which output is used, and warn of doubts.

    Parameters
    ----------
    predictor : Predictor
        Its `output` is set, if the network returns several tensors.
    classes : int, optional
        The number of logits for each voxel, where it is known.

    Warns
    -----
    SegxaiWarning
        If there was a choice among several tensors, if logits are interpolated or look like
        probabilities, if the network is random, or if PyTorch's gradient of it is wrong.

    Raises
    ------
    SegxaiError
        If it is not clear which tensor has the logits; if it has probabilities, or scores of
        instances; or if the network cannot be differentiated.
    """
    window = predictor.layout.windows[len(predictor.layout.windows) // 2]
    crop = image[window.inside(predictor.layout.shape).index].detach().clone().requires_grad_()
    with frozen(predictor.network), exact_arithmetic(), torch.enable_grad():
        output = predictor.outputs(crop, window)
        chosen = settled(output, predictor.output, window.size, classes)
        if predictor.output is None and chosen is not None:
            _warn_of_choice(tensors_of(output), chosen)
        predictor.output = chosen
        logits = logits_of(output, chosen)
        _inspect_graph(logits)
        logits = logits.detach()
        with torch.no_grad():
            again = logits_of(predictor.outputs(crop, window), chosen)
    _warn_of_size(predictor, logits, window.size)
    _warn_of_values(logits)
    _warn_of_chance(logits, again)


def settled(
    output: Any, which: str | int | None, size: Sequence[int], classes: int | None = None
) -> str | None:
    """Settle which of the tensors that a network returns has the logits, and check their values.

    Parameters
    ----------
    output : Any
        What the network returns for a window of this size.
    which : str or int, optional
        What the user says; see `logits_of`.

    Returns
    -------
    str or None
        The tensor's name; None if there is a single tensor, without a name.

    Raises
    ------
    SegxaiError
        If it is not clear which tensor it is, or it has probabilities or scores of instances.
    """
    if isinstance(output, Tensor):
        if which is not None:
            raise SegxaiError(f"the network returns a single tensor: leave out {option('output')}")
        chosen = None
    else:
        found = tensors_of(output)
        if which is None:
            _check_parts(found)
        chosen = name_of_logits(output, which, classes)
        if which is None:
            _check_masks(found, chosen, size)
    if kind_of(logits_of(output, chosen)) == "probabilities":
        raise SegxaiError(
            "the network returns probabilities, which sum to 1 over its classes; segxai needs the "
            "logits that they were computed from: leave out the network's last softmax, or if it "
            f"returns the logits, too, name them with {option('output')}"
        )
    return chosen


class Trial(nn.Module):
    """A network that returns its logits alone, for trial runs, which see what a run would refuse.

    Parameters
    ----------
    network : nn.Module
        Maps (1, channel, *window) to logits, alone or among other outputs.
    output : str or int, optional
        What the user says about them; see `logits_of`.
    classes : int, optional
        The number of logits for each voxel, where it is known.
    """

    def __init__(
        self, network: nn.Module, output: str | int | None = None, classes: int | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.classes = classes

    def forward(self, image: Float[Tensor, "1 channel *window"]) -> Tensor:
        """Compute the logits; raise SegxaiError as `settled` does."""
        output = self.network(image)
        chosen = settled(output, self.output, image.shape[2:], self.classes)
        return logits_of(output, chosen)


def _check_parts(found: Mapping[str, Tensor]) -> None:
    named = [name for name in found if name.rpartition(".")[2] in OF_INSTANCES]
    if named:
        raise _instances(f"its output has {', '.join(named)}")


def _check_masks(found: Mapping[str, Tensor], chosen: str, size: Sequence[int]) -> None:
    """Check that channels are not masks of queries, or prototypes of the masks of boxes.

    Then there is a table (1, query, number) of as many queries, or, beside coarse prototypes, a
    table of boxes with a coefficient for each prototype.
    """
    logits = found[chosen]
    channels, is_coarse = logits.shape[1], tuple(logits.shape[2:]) != tuple(size)
    if channels < FEWEST or logits.ndim < 4:
        return
    tables = [one.shape[1:] for one in found.values() if one.ndim == 3]
    if any(one[0] == channels or (is_coarse and min(one) >= channels + BOX) for one in tables):
        raise _instances(f"it returns {in_words(found)}")


def _warn_of_choice(found: Mapping[str, Tensor], chosen: str) -> None:
    if stated_name(found) != chosen:
        others = {name: one for name, one in found.items() if name != chosen}
        warn(
            f"the network returns {len(found)} tensors: its logits are taken from "
            f"{in_words({chosen: found[chosen]})}, not from {in_words(others)}; if that is wrong, "
            f"give {option('output')}"
        )


def _instances(why: str) -> SegxaiError:
    return SegxaiError(
        f"the network seems to find instances itself, by queries or boxes ({why}), which would be "
        "explained as if they were classes; use the plugin natural_image, which reads such models "
        f"of transformers and torchvision, or name the tensor of logits with {option('output')}"
    )


def _warn_of_size(predictor: Predictor, logits: Tensor, size: Sequence[int]) -> None:
    as_they_are = predictor.keeps_own_logits or tuple(logits.shape[2:]) == tuple(size)
    if as_they_are or predictor.align_corners:
        return
    if stride_of(logits.shape, (1, 1, *size)) is None:
        return  # no coarse logits: refused where they are read
    warn(
        f"the network's logits are coarse, {format_shape(logits.shape[2:])} for an input of "
        f"{format_shape(size)}: they are interpolated linearly, without aligned corners; if its "
        f"author aligns them, give {option('align_corners', True)}"
    )


def _warn_of_values(logits: Tensor) -> None:
    kind, span = kind_of(logits), float(logits.max() - logits.min())
    # Logits of several classes may lie there by chance, but close together, before any training.
    if kind == "unit interval" and (logits.shape[1] == 1 or span > CHANCE):
        warn(
            "the network's output lies between 0 and 1, as probabilities do, but is taken for "
            "logits, which are positive where a class is predicted: leave out its last sigmoid"
        )
    if kind == "log-probabilities":
        warn(
            "the network's output is the logarithm of probabilities, but is taken for logits: "
            "leave out its last log-softmax, or the maps are those of log-probabilities"
        )


def _warn_of_chance(logits: Tensor, again: Tensor) -> None:
    largest = float(logits.abs().max())
    difference = float((logits - again).abs().max())
    if difference > RANDOM * largest:
        warn(
            f"the network is random: two passes on the same image differ by {difference:.2g}, "
            f"where the largest logit is {largest:.2g} (a dropout that is always on?); no run can "
            "be repeated"
        )


def _inspect_graph(logits: Tensor) -> None:
    """Look for operations that PyTorch cannot differentiate, or differentiates wrongly."""
    checked = set()
    for node in _nodes(logits.grad_fn):
        name = type(node).__name__
        if name == "CheckpointFunctionBackward":
            raise SegxaiError(
                "the network computes activations twice by reentrant checkpointing, which has no "
                "gradient of the image alone: switch checkpointing off, or give "
                "torch.utils.checkpoint.checkpoint use_reentrant=False"
            )
        if name in SCALED and (scaled := _scaled(node)) is not None and scaled not in checked:
            checked.add(scaled)
            _compare_with_gradient(*scaled)


def _nodes(root: Any) -> Iterator[Any]:
    """Yield all nodes of a graph, each once."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        yield node
        following = {one for one, _ in node.next_functions} - seen
        seen |= following
        waiting += following


def _scaled(node: Any) -> tuple[str, tuple[int, ...], tuple[float, ...]] | None:
    """Return the mode, the sizes and the factors of an interpolation; None if it has no factors."""
    mode, names = SCALED[type(node).__name__]
    factors = tuple(getattr(node, f"_saved_{name}") for name in names)
    if None in factors:
        return None
    return mode, tuple(node._saved_self_sym_sizes[2:]), factors


def _compare_with_gradient(mode: str, size: tuple[int, ...], factors: tuple[float, ...]) -> None:
    """Compare an interpolation with its gradient: u (A v) is (A' u) v for any u and v."""
    generator = torch.Generator().manual_seed(0)

    def interpolated(image: Tensor) -> Tensor:
        return functional.interpolate(image, scale_factor=factors, mode=mode)

    image = torch.randn(1, 1, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    output = interpolated(image)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(output, image, weights)
    products = (weights * output).detach(), (gradient * image).detach()
    difference = abs(float(products[0].sum() - products[1].sum()))
    if difference > WRONG * float(products[0].abs().sum()):
        words = ", ".join(f"{one:g}" for one in factors)
        warn(
            f"PyTorch's gradient of {mode} interpolation of {format_shape(size)} by factors of "
            f"{words} is wrong, so maps may be wrong: give the interpolation a size, or "
            "recompute_scale_factor=True"
        )
