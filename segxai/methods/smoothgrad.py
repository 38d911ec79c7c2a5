"""SmoothGrad of an instance: the mean of its gradient maps over noisy copies of the image."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.geometry import Box
from segxai.methods.cropping import crop_to_support
from segxai.methods.domain_scores import DomainScores
from segxai.methods.gradient import InstanceGradient
from segxai.methods.method import Context, Method, with_rows_for
from segxai.methods.noise import Draw, draw_noise, stop_at
from segxai.methods.noise_tunnel import SeededNoiseTunnel
from segxai.methods.options import MethodOptions
from segxai.methods.resume_state import NestedState, WithExtraState
from segxai.methods.sampling_error import SamplingErrorTracker
from segxai.methods.together import Together
from segxai.plugins.hookspecs import hookimpl
from segxai.plugins.registry import load_aggregator
from segxai.segment.predictor import Predictor
from segxai.types import Attribution, Instance


def smoothgrad(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Average the map of one instance over noisy copies, and compute its standard error.

    In the map's facts, "samples" is the number of copies and "standard_error_of_peak" the largest
    standard error of any voxel and channel, divided by the map's largest magnitude, and
    "score_deviation" the standard deviation over the copies of the mean score of the domain (both
    None for a single copy). Where the number of copies follows from a tolerance, "within_tolerance"
    says whether the error came within it before the largest number of copies was reached.
    """
    aggregator = context.aggregator or load_aggregator("signed_max")
    growth = SamplingErrorTracker()
    instance = with_rows_for(aggregator, instance)
    local, box = predictor.crop_to(instance.voxels)
    bookmark = WithExtraState(context.bookmark, growth.state)
    growth.restore(bookmark.load(), image)
    draw = partial(_draw_in_box, options.seed, tuple(image.shape[2:]), box)
    watched = replace(context, aggregator=growth.watch(aggregator, instance), bookmark=bookmark)
    scores = DomainScores(options.score)
    gradient, tunnel = _tunnel(local, draw, options, watched, scores)
    maps = _smooth(tunnel, image[box.index], instance.seen_from(box), options, context)
    error = _joined(tunnel.standard_error or ()) if tunnel.sums.independent > 1 else None
    facts = {
        "rows": len(instance.row_voxels),
        **gradient.facts(),
        **tunnel.facts(instance.label),
        "score_deviation": scores.deviation(options.only_score, tunnel.sums.copies),
        **growth.facts(instance),
    }
    found = Attribution(instance.label, _joined(maps), box.start, error, facts)
    return crop_to_support(found, predictor.on_image(instance))


def smoothgrads_together(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    together: Together,
    options: MethodOptions,
    context: Context,
) -> tuple[Attribution, ...]:
    """Average the maps of several aggregators and scores over noisy copies, from the same rows."""
    local, box = predictor.crop_to(instance.voxels)
    draw = partial(_draw_in_box, options.seed, tuple(image.shape[2:]), box)
    several, scores = options.of_pair(None, together.base), DomainScores(together.scores)
    gradient, tunnel = _tunnel(local, draw, several, replace(context, aggregator=together), scores)
    maps = _smooth(tunnel, image[box.index], instance.seen_from(box), options, context)
    values, domain = _joined(maps, 2), predictor.on_image(instance)  # fold channel box
    error = _joined(tunnel.standard_error or (), 2) if tunnel.sums.independent > 1 else None
    found = []
    for fold, one in enumerate(values):
        peak = tunnel.sums.of_fold(fold).error_of_peak()
        facts = {
            "rows": len(instance.row_voxels),
            **gradient.facts(),
            "samples": tunnel.sums.copies,
            "standard_error_of_peak": peak if isfinite(peak) else None,
            "score_deviation": scores.deviation(together.folds[fold][1], tunnel.sums.copies),
        }
        spread = None if error is None else error[fold]
        whole = Attribution(instance.label, one, box.start, spread, facts)
        found.append(crop_to_support(whole, domain))
    return tuple(found)


def _smooth(
    tunnel: SeededNoiseTunnel,
    crop: Float[Tensor, "1 channel *box"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> tuple[Tensor, ...]:
    """Average the maps of the noisy copies, one tensor for each channel."""
    maps: tuple[Tensor, ...] = tunnel.attribute(
        torch.split(crop, 1, dim=1),
        nt_samples=options.noise.most_copies,
        stdevs=context.noise_levels,
        instance=instance,
    )
    return maps


def _tunnel(
    predictor: Predictor,
    draw: Draw,
    options: MethodOptions,
    context: Context,
    scores: DomainScores,
) -> tuple[InstanceGradient, SeededNoiseTunnel]:
    """Build the gradient of a copy and the tunnel around it, which keep their states as one."""
    ticker = CopyTicker(context.tick)
    scores.restore(context.bookmark.load())
    context = replace(context, bookmark=WithExtraState(context.bookmark, scores.state))
    of_a_copy = replace(
        context,
        tick=lambda share: ticker.tick(share, tunnel),
        bookmark=NestedState(context.bookmark, lambda: tunnel.sums.state()),
    )
    gradient = InstanceGradient.in_context(predictor, options.only_score, of_a_copy, scores)
    gradient.measured.restore(context.bookmark.load())
    tunnel = SeededNoiseTunnel(
        gradient,
        draw=draw,
        antithetic=options.noise.antithetic,
        tolerance=stop_at(options.noise),
        bookmark=WithExtraState(context.bookmark, gradient.measured.state),
    )
    return gradient, tunnel


def _draw_in_box(
    seed: int, grid: tuple[int, ...], box: Box, copy: int, channel: int, _: tuple[int, ...]
) -> Float[np.ndarray, "*box"]:
    """Draw noise on the whole grid and crop it: a voxel's noise must not depend on the instance."""
    return draw_noise(seed, copy, channel, grid)[box.index]


@dataclass
class CopyTicker:
    """A ticker that reports shares of one copy as shares of all copies that are expected.

    Parameters
    ----------
    report : callable
        Called with the share of all work that was done since the last call.
    """

    report: Callable[[float], None]
    made: float = 0.0
    reported: float = 0.0

    def tick(self, share: float, tunnel: SeededNoiseTunnel) -> None:
        """Report a share of a copy. No share is taken back when more copies are expected."""
        self.made += share
        done = (tunnel.restored + self.made) / tunnel.expected
        if done > self.reported:
            self.report(done - self.reported)
            self.reported = done


def _joined(parts: tuple[Tensor, ...], channel_axis: int = 1) -> Float[np.ndarray, "*maps"]:
    """Join the maps of the channels, of a batch of one."""
    return torch.cat(parts, dim=channel_axis)[0].cpu().numpy()


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return SmoothGrad of an instance, or its class-level baseline."""
    if name == "smoothgrad":
        return Method(
            name=name,
            summary="gradient maps of the instance averaged over noisy copies, with standard error",
            attribute=smoothgrad,
            together=smoothgrads_together,
            aggregator="signed_max",
            smooths=True,
            reference="Spagnolo et al., Eqs. 2 and 3",
        )
    return Method(
        name="class_smoothgrad",
        summary="baseline: SmoothGrad of all voxels of the class at once, not of an instance",
        attribute=smoothgrad,
        scope="class",
        aggregator="mean",
        smooths=True,
        reference="Spagnolo et al., Fig. 3b",
    )
