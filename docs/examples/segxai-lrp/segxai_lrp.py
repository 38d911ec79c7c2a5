"""Methods for segxai: layer-wise relevance propagation (LRP) of an instance, by zennit."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from zennit.canonizers import NamedMergeBatchNorm
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Norm, Pass, ZPlus
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

from segxai import (
    Attribution,
    Context,
    Instance,
    InstanceGradient,
    Method,
    MethodOptions,
    Predictor,
    SegxaiError,
    crop_to_support,
    frozen,
    hookimpl,
    logits_of,
)

OTHERS = [(Activation, Pass()), (AvgPool, Norm()), (BatchNorm, Pass())]
SUMMARIES = {
    "lrp": "relevance by the epsilon rule: what each input voxel adds to the instance's mean logit",
    "lrp_plus": "relevance by the z-plus rule in convolutions: positive evidence alone",
}


@dataclass(frozen=True)
class LrpOptions:
    """The options of both methods: `--set epsilon=0.01`."""

    epsilon: float = field(default=1e-6, metadata={"help": "stabiliser of the epsilon rule"})


def rules_of(name: str, epsilon: float) -> list[tuple[type, Any]]:
    """Return the rule for each kind of layer."""
    linear = (Linear, Epsilon(epsilon))
    return {"lrp": [linear, *OTHERS], "lrp_plus": [(Convolution, ZPlus()), linear, *OTHERS]}[name]


def attribute(
    name: str,
    predictor: Predictor,
    image: Tensor,
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Compute the relevance of the input for an instance's mean logit, in logits.

    zennit replaces the backward pass of each layer with its rule. What comes after the network (the
    blend of the windows, the mean over the domain) is linear, so the relevance of the network's
    logits is gradient x logit. The backward passes of the mean gradient, one for each window, do
    the rest.
    """
    if options.only_score != "logit":
        raise SegxaiError(f"method {name!r} decomposes the logit, not the {options.only_score}")
    rules = rules_of(name, context.own.epsilon)
    with relevance_rules(predictor, image, rules) as scores:
        mean = InstanceGradient(predictor, "mean", tick=context.tick)
        values = mean.attribute(image, instance=instance)[0].cpu().numpy()
    facts = {"rule": name, "mean_logit": sum(scores), "relevance": float(values.sum())}
    start = (0,) * (image.ndim - 2)
    whole = Attribution(instance.label, values, start, facts=facts, unit="score")
    return crop_to_support(whole, predictor.on_image(instance))


@contextmanager
def relevance_rules(
    predictor: Predictor, image: Tensor, rules: list[tuple[type, Any]]
) -> Iterator[list[float]]:
    """Make the network's backward pass carry relevance, until the block ends.

    Yields
    ------
    list of float
        The part of the score with which each backward pass starts; filled as they run.
    """
    network, scores = predictor.network, []

    def start(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        found: Tensor = StartRelevance.apply(logits_of(output), scores)
        return found

    with ExitStack() as stack:
        stack.enter_context(merged_batch_norms(predictor, image))
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
def merged_batch_norms(predictor: Predictor, image: Tensor) -> Iterator[None]:
    """Merge every batch norm into the layer whose output it takes, until the block ends.

    A forward pass shows which layer that is, because layers may be registered in any order.

    Raises
    ------
    SegxaiError
        If the network then predicts something else because a layer's output is used elsewhere, too.
    """
    with frozen(predictor.network), torch.no_grad():
        before, pairs = _traced(predictor, image)
        merges = []
        try:
            for batch_norm, linear in pairs.items():
                merges.append(NamedMergeBatchNorm([]))  # empty: the pairs are known
                merges[-1].register((linear,), batch_norm)
            after = _window_logits(predictor, image)
            if (after - before).abs().max() > 1e-3 * before.abs().max():
                raise SegxaiError(
                    "LRP cannot merge the batch norms of this network into its layers"
                )
            with torch.enable_grad():
                yield
        finally:
            for merge in reversed(merges):
                merge.remove()


def _traced(predictor: Predictor, image: Tensor) -> tuple[Tensor, dict[nn.Module, nn.Module]]:
    """Return the logits of a window, and for each batch norm the layer whose output it takes."""
    made: list[tuple[Tensor, nn.Module]] = []
    pairs: dict[nn.Module, nn.Module] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if any(module is layer for _, layer in made):
            raise SegxaiError("LRP needs a network whose layers run once; one of these runs again")
        found = [layer for tensor, layer in made if tensor is inputs[0]]
        made.append((output, module))
        is_scaled = isinstance(module, BatchNorm) and module.weight is not None
        if is_scaled and found and isinstance(found[0], Linear):
            pairs[module] = found[0]

    layers = [one for one in predictor.network.modules() if isinstance(one, (Linear, BatchNorm))]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        return _window_logits(predictor, image), pairs
    finally:
        for hook in hooks:
            hook.remove()


def _window_logits(predictor: Predictor, image: Tensor) -> Tensor:
    window = predictor.layout.windows[0]
    return predictor.window_logits(image[window.inside(predictor.layout.shape).index], window)


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the method of this name, as in `--method lrp`."""
    if name not in SUMMARIES:
        return None
    return Method(
        name=name,
        summary=SUMMARIES[name],
        attribute=partial(attribute, name),
        options=LrpOptions,
        reference="Bach et al. 2015, doi:10.1371/journal.pone.0130140",
    )
