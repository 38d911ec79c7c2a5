"""Relevance: zennit's rules in a network while a block runs, and which networks they fit."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from zennit.canonizers import NamedMergeBatchNorm
from zennit.composites import LayerMapComposite
from zennit.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass, ZPlus
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

from segxai import Predictor, SegxaiError, logits_of

OTHERS = [(Activation, Pass()), (AvgPool, Norm()), (BatchNorm, Pass())]
LARGEST_CHANGE = 1e-3  # of the logits, by merging batch norms, relative to their peak
BRANCHES = "adds two branches (a residual connection), each of which would get all relevance"
PRODUCTS = "multiplies features with each other (attention or gates)"
STATISTICS = "normalises each image by its own statistics (instance, layer or group norm)"
# What two features do to each other, and what a function does to one.
OF_TWO = {
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__"), BRANCHES),
    **dict.fromkeys(("sub", "sub_", "__sub__", "__isub__"), BRANCHES),
    **dict.fromkeys(("mul", "mul_", "__mul__", "__imul__", "__rmul__"), PRODUCTS),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "baddbmm", "einsum"), PRODUCTS),
}
OF_ONE = {
    **dict.fromkeys(("instance_norm", "layer_norm", "group_norm"), STATISTICS),
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), PRODUCTS),
}


def rules_of(composite: str, epsilon: float, gamma: float) -> list[tuple[type, Any]]:
    """Return the rule for each kind of layer; the first that fits is taken."""
    own = {
        "epsilon": [],
        "plus": [(Convolution, ZPlus())],
        "gamma": [(Convolution, Gamma(gamma))],
        "alpha2beta1": [(Convolution, AlphaBeta(2, 1))],
    }[composite]
    return [*own, (Linear, Epsilon(epsilon)), *OTHERS]


class Fitting(TorchFunctionMode):
    """A mode in which a network runs only if every operation that is seen has a rule.

    Raises
    ------
    SegxaiError
        If one has none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        features = [one for one in _flat(args) if _is_feature(one)]
        reason = OF_ONE.get(name) or (OF_TWO.get(name) if len(features) > 1 else None)
        if reason:
            raise SegxaiError(
                f"lrp has no rule for this network: it {reason}; take another method, such as "
                "integrated_gradients"
            )
        return func(*args, **(kwargs or {}))


def _flat(args: Any) -> list[Any]:
    return [part for one in args for part in (one if isinstance(one, tuple | list) else (one,))]


def _is_feature(value: Any) -> bool:
    """Return whether a value is made from the image: neither a weight nor a number."""
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.ndim > 1


@contextmanager
def relevance_rules(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"], rules: list[tuple[type, Any]]
) -> Iterator[list[float]]:
    """Make the network's backward pass carry relevance, until the block ends.

    Yields
    ------
    list of float
        The part of the score with which each backward pass starts; filled as they run.
    """
    network = predictor.network
    scores: list[float] = []

    def start(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        found: Tensor = StartRelevance.apply(logits_of(output, predictor.output), scores)
        return found

    with ExitStack() as stack:
        stack.enter_context(_merged_batch_norms(predictor, image))
        composite = LayerMapComposite(rules)
        stack.callback(composite.remove)  # also if it fails half-way
        composite.register(network)
        stack.callback(network.register_forward_hook(start).remove)
        yield scores


class StartRelevance(torch.autograd.Function):
    """The identity on logits; its backward pass gives each its relevance, gradient x logit."""

    @staticmethod
    def forward(context: Any, logits: Tensor, scores: list[float]) -> Tensor:
        """Return the same values."""
        context.save_for_backward(logits)
        context.scores = scores
        return logits.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return what each logit adds to the score."""
        relevance = gradient * context.saved_tensors[0]
        context.scores.append(float(relevance.sum()))
        return relevance, None


@contextmanager
def _merged_batch_norms(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"]
) -> Iterator[None]:
    """Merge every batch norm into the layer whose output it takes, until the block ends.

    A forward pass shows which layer that is, because layers may be registered in any order.

    Raises
    ------
    SegxaiError
        If the network has operations without a rule, or then predicts something else because a
        layer's output is used elsewhere, too.
    """
    with torch.no_grad():
        before, pairs = _traced(predictor, image)
        merges = []
        try:
            for batch_norm, linear in pairs.items():
                merges.append(NamedMergeBatchNorm([]))  # empty: the pairs are known
                merges[-1].register((linear,), batch_norm)
            after = _window_logits(predictor, image)
            if (after - before).abs().max() > LARGEST_CHANGE * before.abs().max():
                raise SegxaiError(
                    "lrp cannot merge the batch norms of this network into its layers; take "
                    "another method, such as integrated_gradients"
                )
            with torch.enable_grad():
                yield
        finally:
            for merge in reversed(merges):
                merge.remove()


def _traced(
    predictor: Predictor, image: Float[Tensor, "1 channel *grid"]
) -> tuple[Tensor, dict[nn.Module, nn.Module]]:
    """Return the logits of a window, and for each batch norm the layer whose output it takes."""
    made: list[tuple[Tensor, nn.Module]] = []
    pairs: dict[nn.Module, nn.Module] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if any(module is layer for _, layer in made):
            raise SegxaiError("lrp needs a network whose layers run once; one of these runs again")
        found = [layer for tensor, layer in made if tensor is inputs[0]]
        made.append((output, module))
        is_scaled = isinstance(module, BatchNorm) and module.weight is not None
        if is_scaled and found and isinstance(found[0], Linear):
            pairs[module] = found[0]

    layers = [one for one in predictor.network.modules() if isinstance(one, (Linear, BatchNorm))]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        with Fitting():
            return _window_logits(predictor, image), pairs
    finally:
        for hook in hooks:
            hook.remove()


def _window_logits(predictor: Predictor, image: Float[Tensor, "1 channel *grid"]) -> Tensor:
    window = predictor.layout.windows[0]
    return predictor.window_logits(image[window.inside(predictor.layout.shape).index], window)
