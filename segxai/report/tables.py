"""Tables of a result: one row for each explained instance."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from segxai.store.reader import maps
from segxai.store.refusal import loaded, refusal, source_of
from segxai.store.schema import facts_of, group
from segxai.store.summaries import SUMMARIES

Row = dict[str, Any]
SIZE_UNITS = {"volume_mm3": "mm3", "area_px": "px"}
SAMPLING_ERRORS = ("peak_error", "map_error", "map_error_l2")


def instance_table(tree: xr.DataTree, run: str) -> list[Row]:
    """Tabulate the explained instances, one row each.

    Each has "label", "class", "outcome", "volume_mm3" ("area_px" in pictures), "mean_probability",
    the "peak" and "trough" of each channel as "flair peak" and so on, "estimate" (whether its map
    comes from a sample of its rows) and its errors "peak_error", "map_error" and "map_error_l2",
    "energy_left_out" if maps were cropped, and a "note" on what to keep in mind. The whole class
    has the label 0, and no outcome or size.

    Raises
    ------
    SegxaiError
        If numbers are damaged, or belong to no map.
    """
    if "summaries" not in tree.children or run not in tree["summaries"].children:
        return []
    summaries = loaded(group(tree, f"summaries/{run}"))
    instances = loaded(group(tree, "instances"))
    known = set(instances.label.values.tolist())
    facts = {label: facts_of(stored) for label, stored in maps(tree, run).items()}
    if lost := set(summaries.label.values.tolist()) - facts.keys():
        raise refusal(source_of(summaries), f"run {run} has no map of instance {min(lost)}")
    rows = []
    for label in summaries.label.values.tolist():
        row: Row = {"label": label}
        row |= _instance_columns(instances.sel(label=label)) if label in known else {}
        for channel in summaries.channel.values.tolist():
            one = summaries.sel(label=label, channel=channel)
            row |= {f"{channel} {name}": float(one[name]) for name in SUMMARIES}
        rows.append(row | _reservations(facts[label], row.get("outcome", "")))
    return rows


def _instance_columns(instance: xr.Dataset) -> Row:
    return {
        "class": str(instance["class"].item()),
        "outcome": str(instance["outcome"].item()),
        **{name: float(instance[name]) for name in SIZE_UNITS if name in instance},
        "mean_probability": float(instance["mean_probability"]),
    }


def _reservations(facts: Mapping[str, Any], outcome: str) -> Row:
    """List what to keep in mind when reading a map, as columns and in words."""
    columns: Row = {"estimate": facts["estimate"]}
    words = ["missed by the model"] if outcome == "FN" else []
    if facts["estimate"]:
        columns |= {name: facts.get(name) for name in SAMPLING_ERRORS}
        words.append(_estimate(facts))
    if facts.get("rank"):  # 0 where every row was exact
        words.append(f"low rank: rows within {facts['row_error']:.1%} of their peak")
    if "precision" in facts:
        words.append(_precision(facts))
    if not facts.get("within_tolerance", True):
        words.append(f"{facts['samples']} noisy copies: not within the tolerance")
    if "energy_left_out" in facts:
        columns["energy_left_out"] = facts["energy_left_out"]
        words.append(f"{facts['energy_left_out']:.1%} of the energy cut off")
    return columns | {"note": "; ".join(words)}


def _precision(facts: Mapping[str, Any]) -> str:
    """Describe what a comparison with full precision found; older results do not count the rows."""
    compared = f"{facts.get('precision_rows', 'few')} rows compared"
    return f"{facts['precision']}: {compared}, off by up to {facts['precision_error']:.1%}"


def _estimate(facts: Mapping[str, Any]) -> str:
    """Describe how accurate a map from a sample of its rows is."""
    rows = f" from {facts['rows']} of {facts['domain_voxels']} rows" if "rows" in facts else ""
    peak, anywhere, _ = (facts.get(name) for name in SAMPLING_ERRORS)
    if peak is None or anywhere is None:
        return f"estimate{rows}, error unknown"
    return f"estimate{rows}, error about {peak:.0%} at the peak, {anywhere:.0%} anywhere"
