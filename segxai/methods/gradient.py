"""Gradient: the rows of an instance, aggregated to one signed map for each channel."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor, nn

from segxai.methods.cropping import crop_to_support
from segxai.methods.domain_scores import DomainScores
from segxai.methods.measured import MeasuredFacts
from segxai.methods.method import Aggregator, Context, Method, ignore, with_rows_for
from segxai.methods.open_signs import open_signs
from segxai.methods.options import MethodOptions, Numerics
from segxai.methods.precision import compare_precision
from segxai.methods.resume_state import (
    Bookmark,
    NoBookmark,
    State,
    WithExtraState,
    state_from_tensors,
    state_to_tensors,
)
from segxai.methods.sampling_error import SamplingErrorTracker
from segxai.methods.together import Together
from segxai.plugins.hookspecs import hookimpl
from segxai.plugins.registry import load_aggregator
from segxai.rows.engines import Engine, find_engine
from segxai.rows.jacobian import rows
from segxai.rows.mean_row import score_gradient
from segxai.rows.weighted_score import WeightedScore
from segxai.rows.window_pass import Voxels
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predictor import Predictor, as_predictor
from segxai.types import Attribution, Instance

Inputs = Tensor | tuple[Tensor, ...]


class InstanceGradient(GradientAttribution):
    """Signed gradient map of one instance: its rows D_v', aggregated over the domain.

    A Captum attribution: `InstanceGradient(model).attribute(image, instance=instance)`; composes
    with `captum.attr.NoiseTunnel`. The model is left unchanged.

    Parameters
    ----------
    model : nn.Module
        Maps (1, channel, *grid) to logits (1, class, *grid); a `Predictor` brings its own windows.
    aggregator : str or Aggregator
        How the rows become one map: "signed_max" (Eq. 3) or "mean" (Eq. 2).
    score : {"logit", "margin", "probability"}
        Which number of an output voxel is differentiated.
    engine : {"auto", "windowed", "dense", "lowrank"}
        How rows are computed. Only speed depends on it, except that "lowrank", which "auto" never
        takes, is an approximation. "auto" finds the engine that suits the network.
    batch : int, optional
        Largest number of rows computed at once: affects memory and speed, never values.
    tolerance : float, optional
        For "lowrank": the largest error of a row, relative to its peak.
    precision : {"float32", "tf32"}
        In which the network computes. The error of "tf32", which only a GPU has, is measured on a
        sample of the first image's rows.
    tick : callable
        Called with the share of the work done since the last call.
    bookmark : Bookmark, optional
        Keeps the progress within an image, for a process that continues it. Not used for linear
        aggregators, which need no single rows, nor for batches of images.
    domain_scores : DomainScores, optional
        Takes the mean score of the domain on each image. The model is then a predictor that is cut
        down to the instance.

    References
    ----------
    Spagnolo et al., "Instance-level quantitative saliency in multiple sclerosis lesion
    segmentation", Eqs. 2 and 3 for a single noisy copy.
    """

    def __init__(
        self,
        model: nn.Module,
        aggregator: str | Aggregator = "signed_max",
        *,
        score: str = "logit",
        engine: str = "auto",
        batch: int | None = None,
        tolerance: float | None = None,
        precision: str = "float32",
        tick: Callable[[float], None] = ignore,
        bookmark: Bookmark | None = None,
        domain_scores: DomainScores | None = None,
    ) -> None:
        super().__init__(model)
        self.model = model
        self.aggregator = load_aggregator(aggregator) if isinstance(aggregator, str) else aggregator
        self.score = score
        self.engine = engine
        self.batch = batch
        self.numerics = Numerics(precision=precision, row_tolerance=tolerance)
        self._ready: Engine | None = None
        self.measured = MeasuredFacts()
        self.tick = tick
        self.bookmark = WithExtraState(bookmark or NoBookmark(), self.measured.state)
        self.domain_scores = domain_scores

    @classmethod
    def in_context(
        cls,
        model: nn.Module,
        score: str,
        context: Context,
        domain_scores: DomainScores | None = None,
    ) -> "InstanceGradient":
        """Build the attribution of a method's context."""
        return cls(
            model,
            context.aggregator or "signed_max",
            score=score,
            engine=context.compute.engine,
            batch=context.compute.batch,
            tolerance=context.numerics.row_tolerance,
            precision=context.numerics.precision,
            tick=context.tick,
            bookmark=context.bookmark,
            domain_scores=domain_scores,
        )

    # Captum's NoiseTunnel calls `attribute.__wrapped__`, which only a logged method has.
    @log_usage()
    def attribute(self, inputs: Inputs, instance: Instance | ArrayLike) -> Inputs:
        """Compute the map of one instance, for each image of a batch.

        Parameters
        ----------
        inputs : Tensor of shape (batch, channel, *grid), or a tuple of such
            The tensors of a tuple are joined along their channels. With one tensor for each
            channel, every channel has its own noise level in a NoiseTunnel.
        instance : Instance, or a boolean array or tensor of shape (*grid)
            A bare mask stands for class 1.

        Returns
        -------
        Tensor or tuple
            Like `inputs`, in score per unit of the input; 0 where no row reaches.

        Raises
        ------
        SegxaiError
            If the instance lies on another grid than the model's output.
        """
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        images = torch.cat([part.detach() for part in parts], dim=1)
        shape = as_predictor(self.model, images).domain_shape
        target = with_rows_for(self.aggregator, Instance.of(instance, shape))
        bookmark = self.bookmark if len(images) == 1 else NoBookmark()
        with frozen(self.model), exact_arithmetic(tf32=self.numerics.precision == "tf32"):
            maps = torch.stack([self._map(image[None], target, bookmark) for image in images])
        channels = maps.ndim - images.ndim + 1  # behind the folds of several aggregators
        split = torch.split(maps, [part.shape[1] for part in parts], dim=channels)
        return split if isinstance(inputs, tuple) else split[0]

    def _map(
        self, image: Float[Tensor, "1 channel *grid"], instance: Instance, bookmark: Bookmark
    ) -> Float[Tensor, "*maps"]:
        """Compute the map (channel, *grid) of one image, on the crop that determines the instance.

        Several aggregators together make (fold, channel, *grid).
        """
        whole = as_predictor(self.model, image)
        predictor, box = whole.crop_to(instance.row_voxels)
        local = instance.seen_from(box)
        found = self._aggregate(predictor, image[box.index], local, bookmark)
        if self.domain_scores is not None and not self.aggregator.linear:
            self.domain_scores.measure(whole, image, instance)
        full = image.new_zeros(*found.shape[: 2 - image.ndim], *image.shape[2:])
        full[box.index] = found
        return full

    def _aggregate(
        self,
        predictor: Predictor,
        crop: Float[Tensor, "1 channel *crop"],
        instance: Instance,
        bookmark: Bookmark,
    ) -> Float[Tensor, "*maps"]:
        voxels = instance.row_voxels
        options: dict[str, Any] = {"class_index": instance.class_index, "score": self.score}
        if self.numerics.precision != "float32" and "precision_error" not in self.measured.largest:
            self.measured.include(compare_precision(predictor, crop, instance, self.score))
        if self.aggregator.linear:
            score = WeightedScore.mean_over(voxels, **options, activation=predictor.activation)
            mean, value = score_gradient(predictor, crop, score, engine=self.engine)
            if self.domain_scores is not None:
                self.domain_scores.values.append([value])
            self.tick(1.0)
            return mean
        engine = self._engine_for(predictor, crop, voxels)
        state, done = self._resumed(self.aggregator.start(crop[0]), bookmark)
        if done:
            self.tick(done / len(voxels))
        if isinstance(self.aggregator, Together):
            options["scales"] = self.aggregator.scores
        for batch in rows(predictor, crop, voxels, **options, engine=engine, done=done):
            state = self.aggregator.add(state, batch)
            if self.domain_scores is not None:
                self.domain_scores.collect(batch)
            done += len(batch.values)
            self.tick(len(batch.values) / len(voxels))
            self.measured.include(engine.facts())
            bookmark.keep(partial(_kept, state, done))
        if "row_error" in self.measured.largest:
            self.measured.include(open_signs(state, self.measured.largest["row_error"]))
        return self.aggregator.finish(state)

    def _engine_for(
        self, predictor: Predictor, crop: Float[Tensor, "1 channel *crop"], voxels: Voxels
    ) -> Engine:
        """Find the engine that was asked for or suits the network; the same for all images."""
        if self._ready is None:
            suited = find_engine(predictor, crop, voxels, engine=self.engine, batch=self.batch)
            self.engine, self._ready = suited.name, suited.make(self.numerics.row_tolerance)
        return self._ready

    def facts(self) -> dict[str, Any]:
        """Describe how the rows were computed so far, and the error of any approximation.

        Figures are the largest of all images, also of those that an earlier process explained.
        """
        precision = self.numerics.precision
        lower = {} if precision == "float32" else {"precision": precision}
        return {"engine": self.engine, **lower, **self.measured.largest}

    def _resumed(self, fresh: Any, bookmark: Bookmark) -> tuple[Any, int]:
        """Load the aggregator's state to continue from, and the number of rows in it."""
        kept = bookmark.load()
        self.measured.restore(kept)
        return (state_from_tensors(fresh, kept), int(kept["rows"])) if kept else (fresh, 0)


def _kept(state: Any, done: int) -> State:
    """Collect what a bookmark keeps; nothing where the aggregator's state cannot be kept."""
    tensors = state_to_tensors(state)
    return {} if tensors is None else {"rows": torch.tensor(done), **tensors}


def gradient(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Compute the map of one instance on the clean image."""
    aggregator = context.aggregator or load_aggregator("signed_max")
    growth = SamplingErrorTracker()
    instance = with_rows_for(aggregator, instance)
    watched = replace(context, aggregator=growth.watch(aggregator, instance))
    method = InstanceGradient.in_context(predictor, options.only_score, watched)
    values = method.attribute(image, instance=instance)[0]
    facts = {
        "rows": len(instance.row_voxels),
        "samples": 1,
        **method.facts(),
        **growth.facts(instance),
    }
    whole = Attribution(
        instance.label, values.cpu().numpy(), (0,) * len(values.shape[1:]), facts=facts
    )
    return crop_to_support(whole, predictor.on_image(instance))


def gradients_together(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    together: Together,
    options: MethodOptions,
    context: Context,
) -> tuple[Attribution, ...]:
    """Compute the maps of several aggregators and scores from the same rows."""
    method = InstanceGradient.in_context(
        predictor, together.base, replace(context, aggregator=together)
    )
    maps = method.attribute(image, instance=instance)[0].cpu().numpy()  # fold channel grid
    facts = {"rows": len(instance.row_voxels), "samples": 1, **method.facts()}
    origin, domain = (0,) * (maps.ndim - 2), predictor.on_image(instance)
    return tuple(
        crop_to_support(Attribution(instance.label, values, origin, facts=facts), domain)
        for values in maps
    )


@hookimpl
def segxai_method(name: str) -> Method | None:
    """Return the plain gradient."""
    return Method(
        name="gradient",
        summary="rows of the instance on the clean image, aggregated: a signed map per channel",
        attribute=gradient,
        together=gradients_together,
        aggregator="signed_max",
        reference="Spagnolo et al., Eqs. 2 and 3 with one noiseless copy",
    )
