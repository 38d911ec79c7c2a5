"""Tables of a result: one row for each explained instance."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from segxai.store.reader import maps
from segxai.store.refusal import loaded, refusal, source_of
from segxai.store.schema import group
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
    known = _instance_columns(instances)
    numbers = {
        f"{channel} {name}": summaries[name].values[:, place].tolist()
        for place, channel in enumerate(summaries.channel.values.tolist())
        for name in SUMMARIES
    }
    found = maps(tree, run)
    rows = []
    for place, label in sorted(enumerate(summaries.label.values.tolist()), key=lambda one: one[1]):
        if label not in found:
            raise refusal(source_of(summaries), f"run {run} has no map of instance {label}")
        row: Row = {"label": label, **known.get(label, {})}
        row |= {name: values[place] for name, values in numbers.items()}
        rows.append(row | _reservations(found.facts(label), row.get("outcome", "")))
    return rows


def _instance_columns(instances: xr.Dataset) -> dict[int, Row]:
    """Return what is known of each instance before it is explained, by label."""
    sizes = [name for name in SIZE_UNITS if name in instances]
    columns = {name: instances[name].values.astype(str).tolist() for name in ("class", "outcome")}
    columns |= {
        name: instances[name].values.astype(float).tolist() for name in (*sizes, "mean_probability")
    }
    return {
        label: {name: values[place] for name, values in columns.items()}
        for place, label in enumerate(instances.label.values.tolist())
    }


def _reservations(facts: Mapping[str, Any], outcome: str) -> Row:
    """List what to keep in mind when reading a map, as columns and in words."""
    columns: Row = {"estimate": facts["estimate"]}
    words = ["missed by the model"] if outcome == "FN" else []
    if facts["estimate"]:
        columns |= {name: facts.get(name) for name in SAMPLING_ERRORS}
        words.append(_estimate(facts))
    if facts.get("rank"):  # 0 where every row was exact
        words.append(_low_rank(facts))
    if "precision" in facts:
        words.append(_precision(facts))
    if not facts.get("within_tolerance", True):
        words.append(f"{facts['samples']} noisy copies: not within the tolerance")
    if "energy_left_out" in facts:
        columns["energy_left_out"] = facts["energy_left_out"]
        words.append(f"{facts['energy_left_out']:.1%} of the energy cut off")
    return columns | {"note": "; ".join(words)}


def _low_rank(facts: Mapping[str, Any]) -> str:
    """Describe how accurate approximate rows are, and the signs that they leave open."""
    words = f"low rank: rows within about {facts['row_error']:.1%} of their peak"
    if facts.get("open_signs"):  # older results do not count them
        size = f"{facts['open_sign_size']:.0%} of the map's peak"
        words += f", {facts['open_signs']} signs open at up to {size}"
    return words


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
