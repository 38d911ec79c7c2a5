"""Channel Shapley values: what each channel adds to an instance's score, over all sets of others.

The channels of a set keep their own values, and those of the others are replaced. Shapley (1953),
"A value for n-person games", gives each channel its mean gain over all orders in which the
channels can be given back; every set is run, so that the values are exact.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from scipy.special import comb

from segxai.errors import SegxaiError, unknown_name
from segxai.experiments.cases import CaseFile
from segxai.experiments.fills import IN_WORDS, NEAR_MM, Filler, Image, check_fills, usable_fills
from segxai.experiments.probe import (
    Access,
    DomainScore,
    Probe,
    check_same_model,
    healthy_tissue,
    instances_of,
    ready,
)
from segxai.geometry import Box, Grid
from segxai.methods.cropping import on_map
from segxai.store.hdf5 import open_result
from segxai.store.schema import group

MOST_CHANNELS = 8  # 256 passes an instance
PLACES = ("domain", "image")
SCORES = ("logit", "probability")


@dataclass(frozen=True)
class Replacement:
    """What stands in for a channel that is taken away, and where.

    Parameters
    ----------
    fill : str
        One of `segxai.experiments.fills.FILLS`.
    within : str
        "domain", or "image" for all of it.
    """

    fill: str = "healthy"
    within: str = "domain"

    def __post_init__(self) -> None:
        check_fills([self.fill])
        if self.within not in PLACES:
            raise unknown_name("place", self.within, PLACES)

    @property
    def words(self) -> str:
        """The same in plain words."""
        place = {"domain": "in the domain", "image": "everywhere"}[self.within]
        return f"replaced {place} by {IN_WORDS[self.fill]}"


def check_channels(cases: Sequence[CaseFile]) -> None:
    """Raise SegxaiError if a result has too many channels to run every set of them."""
    for case in cases:
        with open_result(case.path) as tree:
            channels = group(tree, "input").sizes["channel"]
        if channels > MOST_CHANNELS:
            raise SegxaiError(
                f"{case.path.name} has {channels} channels: their Shapley values would take "
                f"{2**channels} passes an instance; known: up to {MOST_CHANNELS} channels; give "
                "--no-shapley for the rest"
            )


def shapley_values(worth: Float[np.ndarray, "*coalition"]) -> Float[np.ndarray, " channel"]:
    """Compute exact Shapley values.

    Parameters
    ----------
    worth : ndarray of shape (2, ..., 2), an axis for each channel
        The score where a channel is replaced (index 0 of its axis), or kept (1).

    Returns
    -------
    ndarray of shape (channel,)
        In the units of the score; they sum to `worth[1, ..., 1] - worth[0, ..., 0]`.
    """
    others = worth.ndim - 1
    kept = sum(np.indices((2,) * others, sparse=True), start=np.zeros(()))
    share = 1 / (worth.ndim * comb(others, kept))
    gains = [worth.take(1, axis) - worth.take(0, axis) for axis in range(worth.ndim)]
    return np.array([(share * gain).sum() for gain in gains])


def coalition_scores(
    probe: Probe, other: Image, where: Bool[np.ndarray, "*box"]
) -> list[DomainScore]:
    """Score a domain for each set of channels that are kept, the others replaced somewhere.

    The sets are in the order of `itertools.product`: none is kept in the first, all in the last.
    """
    image, found = probe.image, []
    for kept in product((False, True), repeat=len(image)):
        replaced = where & ~np.reshape(kept, (-1, *(1,) * where.ndim))
        found.append(probe.score(np.where(replaced, other, image)))
    return found


def _near(domain: Bool[np.ndarray, "*grid"], grid: Grid) -> Float[np.ndarray, "*grid"]:
    """Return the distance to a domain, in mm; infinite beyond what fills look at."""
    near = Box.holding(domain).grown(NEAR_MM, grid).index
    found = np.full(domain.shape, np.inf)
    found[near] = distance_transform_edt(~domain[near], sampling=grid.spacing)
    return found


def channel_values(
    tree: xr.DataTree,
    case: CaseFile,
    labels: Sequence[int],
    replacement: Replacement,
    access: Access,
) -> Iterator[dict[str, Any]]:
    """Compute the Shapley values of the channels for some instances of a result, and both scores.

    Raises
    ------
    SegxaiError
        If the model of the result cannot be loaded, or it is another; or the fill is not known.
    """
    task = access.task(tree)
    usable_fills((replacement.fill,), task.case)
    instances = instances_of(task, tree)
    filler = Filler(task.case, healthy_tissue(task, tree, instances))
    stored, whole = group(tree, "instances").load(), Box.whole(task.case.grid.shape)
    access.progress.begin(f"modalities {case.case}: Shapley values", len(labels))
    with ready(task):
        for label in labels:
            about = stored.sel(label=label)
            probe = Probe.of(task, instances[label])
            # On the whole image: the healthy tissue nearby may be more than the model's part of it.
            domain = on_map(instances[label], task.case, whole).mask(whole.size)
            distance = _near(domain, task.case.grid)
            other = filler.image(replacement.fill, whole, distance)[probe.box.index]
            where = probe.domain | (replacement.within == "image")
            found = coalition_scores(probe, other, where)
            check_same_model(found[-1], about["mean_probability"].item(), label)
            for score in SCORES:
                worth = np.reshape([getattr(one, score) for one in found], (2,) * len(other))
                for channel, value in zip(task.case.channels, shapley_values(worth), strict=True):
                    yield {
                        "label": label, "outcome": str(about["outcome"].item()), "score": score,
                        "channel": channel, "shapley": float(value), "score_full": worth.flat[-1],
                        "score_replaced": worth.flat[0],
                    }  # fmt: skip
            access.progress.advance(1)
