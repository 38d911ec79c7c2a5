"""SmoothGrad of an instance: the mean of its gradient maps over noisy copies of the image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution as CaptumAttribution
from captum.attr import NoiseTunnel
from jaxtyping import Bool, Float
from torch import Tensor

from segxai.cropping import crop_to_support
from segxai.errors import SegxaiError, unknown_name
from segxai.hookspecs import hookimpl
from segxai.method import Method, Settings
from segxai.methods.gradient import InstanceGradient
from segxai.segmentation import Predictor
from segxai.types import Attribution, Instance

Draw = Callable[[int, int, tuple[int, ...]], Float[np.ndarray, "*shape"]]


def draw_noise(
    seed: int, copy: int, channel: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "*shape"]:
    """Standard normal noise of one channel of one noisy copy.

    A function of its arguments alone: the same on every device, whatever was drawn before.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, copy, channel]))
    return np.random.Generator(stream).standard_normal(shape, dtype=np.float32)


class SeededNoiseTunnel(NoiseTunnel):
    """Captum's NoiseTunnel with noise that can be repeated, and the standard error of its mean.

    Copy n of channel c is drawn from (seed, n, c), where channels are counted through the tuple of
    inputs. Captum's own draw uses the global generator and depends on the batch size; this one
    depends on nothing else. Sums are kept in float64.

    Parameters
    ----------
    attribution_method : captum.attr.Attribution
        Such as `InstanceGradient`.
    seed : int
        Of the noise.
    draw : callable, optional
        Maps (copy, channel, shape) to standard normal noise; `draw_noise` with the seed if not
        given.

    Attributes
    ----------
    standard_error : tuple of Tensor or None
        After `attribute`: of the mean over copies, one tensor for each input; NaN for one copy.
    """

    def __init__(
        self, attribution_method: CaptumAttribution, *, seed: int = 0, draw: Draw | None = None
    ) -> None:
        super().__init__(attribution_method)
        self.draw: Draw = draw or (
            lambda copy, channel, shape: draw_noise(seed, copy, channel, shape)
        )
        self.standard_error: tuple[Tensor, ...] | None = None
        self._copies = 0

    def attribute(self, inputs: Tensor | tuple[Tensor, ...], **options: Any) -> Any:
        """As Captum's `NoiseTunnel.attribute`; one noisy copy at a time unless told otherwise."""
        self._copies = 0
        options.setdefault("nt_samples_batch_size", 1)
        return super().attribute(inputs, **options)

    def _add_noise_to_inputs(
        self, nt_samples_partition: int, inputs: tuple[Tensor, ...], stdevs: Any
    ) -> tuple[Tensor, ...]:
        levels = stdevs if isinstance(stdevs, tuple) else (stdevs,) * len(inputs)
        copies = range(self._copies, self._copies + nt_samples_partition)
        self._copies += nt_samples_partition
        first = np.cumsum([0, *(part.shape[1] for part in inputs)])
        return tuple(
            self._noisy(part, level, copies, int(channel))
            for part, level, channel in zip(inputs, levels, first, strict=False)
        )

    def _noisy(self, part: Tensor, level: float, copies: range, first_channel: int) -> Tensor:
        """Every image of a batch with every copy's noise: copies of one image are neighbours."""
        shape = tuple(part.shape[2:])
        channels = range(first_channel, first_channel + part.shape[1])
        noise = np.stack([[self.draw(copy, c, shape) for c in channels] for copy in copies])
        noisy = part[:, None] + level * torch.from_numpy(noise).to(part)  # batch copy channel grid
        return noisy.flatten(0, 1)

    def _compute_partial_attribution(self, *arguments: Any) -> Any:
        attributions, is_tuple, delta = super()._compute_partial_attribution(*arguments)
        return tuple(one.double() for one in attributions), is_tuple, delta

    def _compute_smoothing(  # Captum's is static, ours keeps the standard error
        self, mean: tuple[Tensor, ...], mean_of_squares: tuple[Tensor, ...], nt_type: str
    ) -> tuple[Tensor, ...]:
        self.standard_error = tuple(
            ((square - one**2).clamp(min=0) / (self._copies - 1)).sqrt().float()
            if self._copies > 1
            else torch.full_like(one, torch.nan).float()
            for one, square in zip(mean, mean_of_squares, strict=True)
        )
        smooth = super()._compute_smoothing(mean, mean_of_squares, nt_type)
        return tuple(one.float() for one in smooth)


NOISE_UNITS: dict[str, Callable[[Float[np.ndarray, " voxel"]], float]] = {
    "range": lambda values: float(values.max() - values.min()),
    "p99": lambda values: float(np.subtract(*np.percentile(values, [99, 1]))),
    "absolute": lambda values: 1.0,
}


def noise_levels(
    image: Float[np.ndarray, "channel *grid"],
    foreground: Bool[np.ndarray, "*grid"],
    noise: float,
    unit: str = "range",
) -> tuple[float, ...]:
    """Standard deviation of the noise in each channel, in units of the network's input.

    Parameters
    ----------
    image, foreground
        The clean normalised image, and the voxels whose values are looked at.
    noise : float
        Level, relative to the unit.
    unit : {"range", "p99", "absolute"}
        What 1 means: the range (max - min) of the channel over the foreground, as SmoothGrad's own
        paper defines it; the distance of its percentiles 1 and 99; one unit of the input.
    """
    if unit not in NOISE_UNITS:
        raise unknown_name("noise unit", unit, NOISE_UNITS)
    if not (noise >= 0 and np.isfinite(noise)):
        raise SegxaiError(f"noise {noise} is not a level; give 0 (no noise) or more, such as 0.05")
    return tuple(noise * NOISE_UNITS[unit](channel[foreground]) for channel in image)


def smoothgrad(
    predictor: Predictor,
    image: Float[Tensor, "1 channel *grid"],
    instance: Instance,
    settings: Settings,
) -> Attribution:
    """The map of one instance, averaged over noisy copies, with its standard error."""
    local, box = predictor.around(instance.row_voxels)
    grid = tuple(image.shape[2:])

    # Drawn on the whole grid and cropped: a voxel's noise must not depend on the instance.
    def draw(copy: int, channel: int, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
        return draw_noise(settings.seed, copy, channel, grid)[box.index]

    gradient = InstanceGradient(
        local,
        settings.aggregator or "signed_max",
        score=settings.score,
        engine=settings.engine,
        batch=settings.batch,
        tick=lambda share: settings.tick(share / settings.samples),
    )
    tunnel = SeededNoiseTunnel(gradient, draw=draw)
    maps = tunnel.attribute(
        torch.split(image[box.index], 1, dim=1),
        nt_samples=settings.samples,
        stdevs=settings.noise_levels,
        instance=instance.seen_from(box),
    )
    error = None if settings.samples == 1 else _joined(tunnel.standard_error or ())
    facts = {
        "rows": len(instance.row_voxels),
        "samples": settings.samples,
        "engine": gradient.engine,
    }
    return crop_to_support(
        Attribution(instance.label, _joined(maps), box.start, error, facts), instance
    )


def _joined(parts: tuple[Tensor, ...]) -> Float[np.ndarray, "channel *box"]:
    return torch.cat(parts, dim=1)[0].cpu().numpy()


@hookimpl
def segxai_method(name: str) -> Method | None:
    """SmoothGrad of an instance, and its class-level baseline."""
    if name == "smoothgrad":
        return Method(
            name=name,
            summary="gradient maps of the instance averaged over noisy copies, with standard error",
            attribute=smoothgrad,
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
