"""Methods of gradients: each is Captum's own, with the gradient taken window by window."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from captum.attr import GradientAttribution, InputXGradient, IntegratedGradients
from captum.log import log_usage
from jaxtyping import Float
from torch import Tensor

from segxai import (
    GuidedBackprop,
    InstanceScore,
    Method,
    SeededNoiseTunnel,
    SegxaiError,
    draw_noise,
    hookimpl,
    warn,
)
from segxai_captum.baselines import BaselineOptions, baseline_of
from segxai_captum.explained import Explained, Found, explaining

LARGEST_GAP = 0.05  # of the difference that integrated gradients should sum to

Images = tuple[Float[Tensor, "batch channel *grid"], ...]


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientsOptions(BaselineOptions):
    """The options of integrated gradients."""

    steps: int = field(
        default=50, metadata={"help": "points on the way from the baseline (Gauss-Legendre)"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise SegxaiError(f"steps={self.steps}: give 1 or more")


def by_windows(tick: Callable[[], None]) -> Callable[..., Images]:
    """Return a gradient function for Captum that holds the graph of one window at a time.

    Parameters
    ----------
    tick : callable
        Called once for each gradient.
    """

    def gradient_func(
        forward_fn: InstanceScore,
        inputs: Images,
        target_ind: None = None,
        additional_forward_args: None = None,
    ) -> Images:
        (images,) = inputs
        found = forward_fn.gradient(images.detach())
        tick()
        return (found,)

    return gradient_func


def integrated_gradients(explained: Explained) -> Found:
    """Compute Captum's integrated gradients, and how far they are from complete.

    Warns
    -----
    SegxaiWarning
        If they miss more than a twentieth of what they should sum to.
    """
    own = explained.context.own or IntegratedGradientsOptions()
    baseline = baseline_of(explained)
    method = IntegratedGradients(explained.score)
    method.gradient_func = by_windows(lambda: explained.context.tick(1 / own.steps))
    values = method.attribute(
        explained.image, baseline.values, n_steps=own.steps, internal_batch_size=1
    )[0]
    with torch.no_grad():
        scores = [float(explained.score(one)) for one in (explained.image, baseline.values)]
    gap = abs(float(values.double().sum()) - (scores[0] - scores[1]))
    if gap > LARGEST_GAP * abs(scores[0] - scores[1]):
        warn(
            f"integrated gradients sum to {float(values.sum()):.4g}, but the score rises by "
            f"{scores[0] - scores[1]:.4g} from the baseline: take more than steps={own.steps}"
        )
    named = dict(zip(("mean_score", "score_of_baseline"), scores, strict=True))
    return Found(values, facts={**baseline.facts, **named, "completeness_gap": gap})


def input_x_gradient(explained: Explained) -> Found:
    """Compute Captum's input times gradient."""
    method = InputXGradient(explained.score)
    method.gradient_func = by_windows(lambda: explained.context.tick(1))
    return Found(method.attribute(explained.image.clone().requires_grad_())[0].detach())


def guided_backprop(explained: Explained) -> Found:
    """Compute guided backpropagation at every ReLU that runs."""
    values = GuidedBackprop(explained.score).attribute(explained.image)[0]
    explained.context.tick(1)
    return Found(values)


class BaselineGradient(GradientAttribution):
    """The difference from a baseline, times the gradient at a point in between.

    One term of Captum's `GradientShap`, with a point that can be drawn repeatably.

    Parameters
    ----------
    score : InstanceScore
        What is explained.
    baseline : Tensor of shape (1, channel, *grid)
        The other end.
    draw : callable
        Returns where on the way the next point lies, from 0 (the baseline) to 1.
    """

    def __init__(self, score: InstanceScore, baseline: Tensor, draw: Callable[[], float]) -> None:
        super().__init__(score)
        self.baseline = baseline
        self.draw = draw

    @log_usage()
    def attribute(self, inputs: Images) -> Images:
        """Compute the term of one noisy image, given as a tuple of its channels."""
        image = torch.cat(inputs, dim=1)
        point = torch.lerp(self.baseline, image, self.draw())
        term = (image - self.baseline) * self.forward_func.gradient(point)
        return torch.split(term, 1, dim=1)


def gradient_shap(explained: Explained) -> Found:
    """Compute GradientSHAP over noisy copies, with the standard error of its mean."""
    baseline, context = baseline_of(explained), explained.context
    seed, grid = explained.options.seed, tuple(explained.case.grid.shape)

    def next_point() -> float:
        context.tick(1 / tunnel.expected)
        return float(np.random.default_rng([seed, tunnel.sums.copies]).uniform())

    def noise(copy: int, channel: int, _: tuple[int, ...]) -> Float[np.ndarray, "*box"]:
        return draw_noise(seed, copy, channel, grid)[explained.box.index]

    copies = explained.options.noise
    term = BaselineGradient(explained.score, baseline.values, next_point)
    tunnel = SeededNoiseTunnel(
        term, draw=noise, antithetic=copies.antithetic, tolerance=copies.tolerance
    )
    channels = torch.split(explained.image, 1, dim=1)
    levels = context.noise_levels or (0.0,) * len(channels)
    values = tunnel.attribute(channels, nt_samples=copies.most_copies, stdevs=levels)
    error = torch.cat(tunnel.standard_error or (), dim=1)[0]
    facts = {**baseline.facts, **tunnel.facts(explained.score.instance.label)}
    is_known = tunnel.sums.independent > 1
    return Found(torch.cat(values, dim=1)[0], error if is_known else None, facts)


FROM_BASELINE = "the voxel's difference from the baseline raises the score"
METHODS = {
    "integrated_gradients": partial(
        explaining,
        integrated_gradients,
        unit="score",
        sign=FROM_BASELINE,
        summary="gradients integrated from a baseline: they sum to the rise of the mean score",
        options=IntegratedGradientsOptions,
        reference="Sundararajan et al. 2017, arXiv:1703.01365",
    ),
    "input_x_gradient": partial(
        explaining,
        input_x_gradient,
        unit="score",
        sign="the voxel's difference from 0 raises the score, to first order",
        summary="the image times the gradient of the mean score",
        reference="Shrikumar et al. 2016, arXiv:1605.01713",
    ),
    "gradient_shap": partial(
        explaining,
        gradient_shap,
        unit="score",
        sign=FROM_BASELINE,
        summary="gradients at random points between a baseline and noisy copies of the image",
        smooths=True,
        options=BaselineOptions,
        reference="Lundberg and Lee 2017, arXiv:1705.07874",
    ),
    "guided_backprop": partial(
        explaining,
        guided_backprop,
        unit="score per input",
        sign="a larger value raises the score, along ways that are positive behind every ReLU",
        summary="the gradient of the mean score without what is negative behind a ReLU",
        reference="Springenberg et al. 2015, arXiv:1412.6806",
    ),
}


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the method of this name."""
    return METHODS[name](name=name) if name in METHODS else None
