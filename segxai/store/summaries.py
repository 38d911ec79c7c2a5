"""Summaries: a few numbers for each map."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from segxai.store.maps import FinishedMap

SUMMARIES = ("peak", "trough")


def peak_and_trough(
    values: Float[np.ndarray, "channel *box"],
) -> Float[np.ndarray, "channel summary"]:
    """Find the largest and the smallest value of each channel.

    A map is 0 outside its box, so a peak is never below 0, a trough never above. NaN propagates.
    """
    flat = values.reshape(len(values), -1)
    return np.stack([flat.max(axis=1, initial=0), flat.min(axis=1, initial=0)], axis=1)


def summaries_dataset(maps: Sequence[FinishedMap]) -> xr.Dataset:
    """Tabulate peak and trough of maps of a run, by label and channel ("heat" for heat maps)."""
    table = np.stack(
        [peak_and_trough(one.values if one.channels else one.values[None]) for one in maps]
    )
    return xr.Dataset(
        {name: (("label", "channel"), table[..., k]) for k, name in enumerate(SUMMARIES)},
        coords={
            "label": [one.label for one in maps],
            "channel": list(maps[0].channels) or ["heat"],
        },
    )
