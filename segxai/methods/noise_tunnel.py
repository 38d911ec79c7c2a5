"""Noise tunnel: a Captum attribution averaged over noisy copies of its input, repeatably."""

from collections.abc import Sequence
from math import ceil, isfinite, isnan, nan
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution as CaptumAttribution
from captum.attr import NoiseTunnel
from captum.log import log_usage
from jaxtyping import Float
from torch import Tensor

from segxai.errors import warn
from segxai.methods.noise import EXPECTED_COPIES, FEWEST_COPIES, Draw, draw_noise
from segxai.methods.resume_state import Bookmark, NoBookmark
from segxai.methods.running_mean import Parts, Sums

STATISTICS = ("smoothgrad", "smoothgrad_sq", "vargrad")


class SeededNoiseTunnel(NoiseTunnel):
    """Captum's NoiseTunnel with noise that can be repeated, and the standard error of its mean.

    Copy n of channel c is drawn from (seed, n, c), where channels are counted through the tuple of
    inputs. Captum's own draw uses the global generator and depends on the batch size; this one
    depends on nothing else. Sums are kept in float64.

    Parameters
    ----------
    attribution_method : captum.attr.Attribution
        The method whose maps are averaged, such as `InstanceGradient`.
    seed : int
        Seed of the noise.
    draw : callable, optional
        Maps (draw, channel, shape) to standard normal noise; `draw_noise` with the seed if not
        given.
    antithetic : bool
        Whether copies 2k and 2k + 1 are a pair: the noise of draw k added, and subtracted.
    tolerance : float, optional
        Stop as soon as `error_of_peak` is at most this; `nt_samples` is then the largest number of
        copies. At least ten independent maps (copies, or antithetic pairs) are made.
    bookmark : Bookmark, optional
        Keeps the sums, for a process that continues them.

    Attributes
    ----------
    standard_error : tuple of Tensor or None
        After `attribute`: the standard error of the mean over copies, one tensor for each input;
        NaN for one copy. With antithetic copies it is computed over pairs, because the two copies
        of a pair are not independent.
    error_of_peak : float
        After `attribute`: the largest standard error of any voxel and channel, divided by the
        largest magnitude of the mean over all voxels and channels; NaN for one copy or pair.
    sums : Sums
        Sums over the copies so far.
    restored : int
        How many of these copies an earlier process made.
    expected : int
        How many copies there will probably be in the end.
    """

    def __init__(
        self,
        attribution_method: CaptumAttribution,
        *,
        seed: int = 0,
        draw: Draw | None = None,
        antithetic: bool = False,
        tolerance: float | None = None,
        bookmark: Bookmark | None = None,
    ) -> None:
        super().__init__(attribution_method)
        self.draw: Draw = draw or (lambda n, channel, shape: draw_noise(seed, n, channel, shape))
        self.antithetic = antithetic
        self.tolerance = tolerance
        self.bookmark = bookmark or NoBookmark()
        self.standard_error: Parts | None = None
        self.error_of_peak = nan
        self.sums = Sums(antithetic=antithetic)
        self.restored = self.expected = 0

    # A tunnel around this one calls `attribute.__wrapped__`, which only a logged method has.
    @log_usage()
    def attribute(
        self,
        inputs: Tensor | Parts,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int = 1,
        stdevs: float | tuple[float, ...] = 1.0,
        draw_baseline_from_distrib: bool = False,
        **options: Any,
    ) -> Any:
        """Average over noisy copies like Captum's `NoiseTunnel.attribute`, by default one by one.

        Raises
        ------
        ValueError
            If `nt_type` is unknown, or if antithetic copies do not come in pairs.
        """
        self._check(nt_type, nt_samples)
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        levels = stdevs if isinstance(stdevs, tuple) else (stdevs,) * len(parts)
        wants_delta = bool(self.is_delta_supported and options.get("return_convergence_delta"))
        is_tuple, deltas = isinstance(inputs, tuple), []
        self._start(parts, nt_samples)
        with torch.no_grad():
            while self.sums.copies < self.expected:
                count = min(nt_samples_batch_size, nt_samples - self.sums.copies)
                expanded = dict(options)
                self._expand_partial(count, expanded, parts, draw_baseline_from_distrib)
                noisy = self._noisy_inputs(parts, levels, count)
                maps, is_tuple, delta = self._compute_partial_attribution(
                    noisy, expanded, isinstance(inputs, tuple), wants_delta
                )
                deltas.append(delta)
                self._add(maps, count, nt_samples)
            smooth = self._compute_smoothing(self.sums.mean(), self.sums.mean_of_squares(), nt_type)
            self.standard_error = tuple(one.float() for one in self.sums.standard_error())
            self.error_of_peak = self.sums.error_of_peak()
        smooth = tuple(one.float() for one in smooth)
        delta = torch.cat(deltas) if wants_delta else None
        return self._apply_checks_and_return_attributions(smooth, is_tuple, wants_delta, delta)

    def facts(self, label: int) -> dict[str, Any]:
        """Describe the copies of an instance's map; warn if they determine it badly."""
        copies, error = self.sums.copies, self.error_of_peak
        facts = {"samples": copies, "standard_error_of_peak": error if isfinite(error) else None}
        if self.tolerance is None:
            return facts
        if not error <= self.tolerance:  # NaN is not within it, either
            warn(
                f"instance {label}: {copies} noisy copies leave a standard error of {error:.2g} of "
                f"the peak, more than the tolerance of {self.tolerance:g}"
            )
        return {**facts, "within_tolerance": error <= self.tolerance}

    def _check(self, nt_type: str, nt_samples: int) -> None:
        if nt_type not in STATISTICS:
            raise ValueError(f"unknown nt_type {nt_type!r}; known: {', '.join(STATISTICS)}")
        if nt_samples < 1:
            raise ValueError(f"nt_samples {nt_samples}: give 1 or more")
        if self.antithetic and (nt_type != "smoothgrad" or nt_samples % 2):
            raise ValueError(
                f"antithetic copies come in pairs, for a mean: give an even nt_samples and nt_type "
                f"'smoothgrad', not {nt_samples} and {nt_type!r}"
            )

    def _start(self, parts: Parts, most: int) -> None:
        fresh = Sums(antithetic=self.antithetic)
        self.sums = fresh.restored(self.bookmark.load(), parts[0].device)
        self.restored = self.sums.copies
        self.expected = EXPECTED_COPIES
        self.expected = self._forecast(most)

    def _add(self, maps: Sequence[Tensor], count: int, most: int) -> None:
        """Add a batch of copies one at a time, so that where to stop does not depend on it."""
        each = [one.unflatten(0, (-1, count)).unbind(1) for one in maps]
        for copy in zip(*each, strict=True):
            if self.sums.copies < self.expected:
                self.sums = self.sums.add(copy)
                self.expected = self._forecast(most)
        self.bookmark.keep(self.sums.state)

    def _forecast(self, most: int) -> int:
        """Forecast the number of copies: as many as there are, if that is enough.

        The forecast depends only on the copies so far. The standard error falls with the square
        root of their number.
        """
        sums = self.sums
        if self.tolerance is None:
            return most
        if sums.first or sums.independent < FEWEST_COPIES:
            return min(max(self.expected, sums.copies + 1), most)
        error = sums.error_of_peak()
        if error <= self.tolerance or isnan(error):  # NaN stays, whatever is added
            return sums.copies
        step = 2 if self.antithetic else 1
        needed = step * sums.independent * (error / self.tolerance) ** 2
        return most if needed >= most else max(step * ceil(needed / step), sums.copies + step)

    def _noisy_inputs(self, parts: Parts, levels: tuple[float, ...], count: int) -> Parts:
        copies = range(self.sums.copies, self.sums.copies + count)
        first = np.cumsum([0, *(part.shape[1] for part in parts)])[:-1]
        return tuple(
            self._noisy(part, level, copies, int(channel))
            for part, level, channel in zip(parts, levels, first, strict=True)
        )

    def _noisy(self, part: Tensor, level: float, copies: range, first_channel: int) -> Tensor:
        """Add the noise of each copy to each image; the copies of one image are neighbours."""
        shape = tuple(part.shape[2:])
        channels = range(first_channel, first_channel + part.shape[1])
        noise = np.stack([[self._noise(copy, c, shape) for c in channels] for copy in copies])
        noisy = part[:, None] + level * torch.from_numpy(noise).to(part)  # batch copy channel grid
        return noisy.flatten(0, 1)

    def _noise(
        self, copy: int, channel: int, shape: tuple[int, ...]
    ) -> Float[np.ndarray, "*shape"]:
        if not self.antithetic:
            return self.draw(copy, channel, shape)
        noise = self.draw(copy // 2, channel, shape)
        return -noise if copy % 2 else noise
