"""Tables of a comparison: one tidy row for each number, and their means over patients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segxai.compare.rows import Row
from segxai.compare.runs import Key
from segxai.statistics.paired import paired_t, patient_means

COLUMNS = (
    "case",
    "patient",
    "first",
    "second",
    "instance",
    "other_instance",
    "channel",
    "metric",
    "value",
    "unit",
    "floor",
    "ceiling",
)
GROUP = ["first", "second", "channel", "metric", "unit"]
LABELS = ("instance", "other_instance")


def tidy(rows: Sequence[Row], names: Mapping[Key, str]) -> pd.DataFrame:
    """Tabulate rows, with the runs' names for their keys; "" where there is no second run.

    Returns
    -------
    DataFrame
        One row for each pair of runs, instance, channel and metric; see `COLUMNS`.
    """
    ready = [
        {**row, "first": names[row["first"]], "second": names.get(row["second"], "")}
        for row in rows
    ]
    table = pd.DataFrame(ready, columns=list(COLUMNS))
    return table.astype({**dict.fromkeys(LABELS, "Int64"), "value": float})


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """Average over the instances of each patient, then over patients.

    Returns
    -------
    DataFrame
        One row for each pair of runs, channel and metric: how many `instances` and `patients` it
        comes from, the mean `value`, its 95 % interval `low` to `high` where there are ten
        patients or more (empty otherwise), and the means of `floor` and `ceiling`.
    """
    rows = [
        {**dict(zip(GROUP, group, strict=True)), **_summary(part)}
        for group, part in table.groupby(GROUP, sort=False)
    ]
    columns = [*GROUP, "instances", "patients", "value", "low", "high", "floor", "ceiling"]
    return pd.DataFrame(rows, columns=columns)


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    patients = part["patient"].to_numpy(dtype=str)
    bounds = {name: _mean(part[name].to_numpy(float), patients) for name in ("floor", "ceiling")}
    values = part["value"].to_numpy(float)
    if np.isnan(values).all():
        empty = dict.fromkeys(("value", "low", "high"), np.nan)
        return {"instances": 0, "patients": 0, **empty, **bounds}
    known = ~np.isnan(values)
    found = paired_t(values[known], patients[known])
    interval = (found.low, found.high) if found.is_headline else (np.nan, np.nan)
    return {
        "instances": found.lesions,
        "patients": found.patients,
        "value": found.value,
        **dict(zip(("low", "high"), interval, strict=True)),
        **bounds,
    }


def _mean(values: np.ndarray, patients: np.ndarray) -> float:
    known = ~np.isnan(values)
    return float(patient_means(values[known], patients[known]).mean()) if known.any() else np.nan


def wide(summary: pd.DataFrame) -> list[Row]:
    """Return one row for each pair of runs and channel, with a mean for each measure, to print."""
    pairs = summary[summary["second"] != ""]
    rows: dict[tuple[str, str, str], Row] = {}
    for one in pairs.to_dict("records"):
        key = (one["first"], one["second"], one["channel"])
        row = rows.setdefault(key, dict(zip(("first", "second", "channel"), key, strict=True)))
        row["instances"] = max(row.get("instances", 0), one["instances"])
        unit = f"_{one['unit']}" if one["unit"] else ""
        row[f"{one['metric']}{unit}"] = None if np.isnan(one["value"]) else one["value"]
    return list(rows.values())
