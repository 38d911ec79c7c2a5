"""Peaks: from the table of domains to one row for each extreme of each map and channel."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from segxai.errors import SegxaiError

EXTREMES = ("peak", "trough")
RUN = ["model", "method", "aggregator", "score"]
ABOUT = [
    "file", "case", "patient", "session", *RUN, "run", "unit", "label", "outcome", "kind",
    "source", "mean_probability",
]  # fmt: skip


def size_column(table: pd.DataFrame) -> str:
    """Return the name of the column of sizes: volumes, or areas in pictures.

    Raises
    ------
    SegxaiError
        If volumes and pictures are mixed, or there is no size.
    """
    known = [
        name for name in ("volume_mm3", "area_px") if name in table and table[name].notna().any()
    ]
    if len(known) != 1:
        what = "both volumes and pictures" if known else "no domain with a size"
        raise SegxaiError(f"the results hold {what}; give results of one kind")
    return known[0]


def channels_of(table: pd.DataFrame) -> list[str]:
    """List the channels of the maps in a table, in its order."""
    return [
        name.removesuffix("_peak")
        for name in table
        if name.endswith("_peak") and f"{name.removesuffix('_peak')}_trough" in table
    ]


def extremes(table: pd.DataFrame) -> pd.DataFrame:
    """Arrange peaks and troughs of a table of domains one below the other.

    Class-level maps, of label 0, are left out, and so are maps without a channel of that name.

    Returns
    -------
    DataFrame
        A row for each domain, run, channel and extreme: columns `channel`, `extreme` ("peak" or
        "trough"), `value`, `size` and what is known of the domain. Empty if there is no domain.
    """
    table = table[table["label"] != 0]
    if not len(table):
        return pd.DataFrame(columns=[*ABOUT, "size", "channel", "extreme", "value"])
    table = table.rename(columns={size_column(table): "size"})
    parts = []
    for channel in channels_of(table):
        for extreme in EXTREMES:
            values = table[f"{channel}_{extreme}"]
            part = table[[*ABOUT, "size"]].assign(channel=channel, extreme=extreme, value=values)
            parts.append(part[values.notna()])
    return pd.concat(parts, ignore_index=True)


def name_of_run(key: tuple[str, ...]) -> str:
    """Name a model and how its maps were made, without the score."""
    return " ".join(one for one in key[:3] if one)


def rows_with(table: pd.DataFrame, values: Mapping[str, object]) -> pd.DataFrame:
    """Select the rows that have these values in these columns."""
    same = np.ones(len(table), dtype=bool)
    for name, value in values.items():
        same &= (table[name] == value).to_numpy(bool)
    return table[same]
