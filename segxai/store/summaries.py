"""Summaries: a few numbers for each map."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

SUMMARIES = ("peak", "trough")


def peak_and_trough(
    values: Float[np.ndarray, "channel *box"],
) -> Float[np.ndarray, "channel summary"]:
    """Find the largest and the smallest value of each channel.

    A map is 0 outside its box, so a peak is never below 0, a trough never above. NaN propagates.
    """
    flat = values.reshape(len(values), -1)
    return np.stack([flat.max(axis=1, initial=0), flat.min(axis=1, initial=0)], axis=1)


def summaries_dataset(
    attributions: Mapping[int, Float[np.ndarray, "..."]], channels: Sequence[str], axes: int
) -> xr.Dataset:
    """Tabulate peak and trough of the maps of a run, by label and channel.

    Parameters
    ----------
    attributions : mapping
        Maps by label, of shape (channel, *box), or (*box) for a heat map (channel "heat").
    channels : sequence of str
        Names of the image's channels.
    axes : int
        Number of axes of the grid.
    """
    with_channel = [
        values if values.ndim > axes else values[None] for values in attributions.values()
    ]
    heat = any(values.ndim == axes for values in attributions.values())
    table = np.stack([peak_and_trough(values) for values in with_channel])
    return xr.Dataset(
        {name: (("label", "channel"), table[..., k]) for k, name in enumerate(SUMMARIES)},
        coords={"label": list(attributions), "channel": ["heat"] if heat else list(channels)},
    )
