"""The gate: which instances a new version of a model explains otherwise than the old one did."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from segxai.compare.comparison import Compared, Comparison
from segxai.compare.runs import ComparedRun
from segxai.errors import SegxaiError, option

PERCENTILE = 99  # of the change between seeds
ROUNDING = 1e-5  # float noise between machines, as `segxai rerun` allows it
CHANGE = "relative_difference"
COLUMNS = (
    "case",
    "patient",
    "old",
    "new",
    "instance",
    "other_instance",
    "change",
    "limit",
    "changed",
)


def judge(compared: Compared, comparison: Comparison, at_most: float | None) -> pd.DataFrame:
    """Judge how much a new version of a model changed the explanation of each instance.

    The first place has the old version, the last one the new version; those between have other
    seeds of the old one. The change of an instance is the largest relative difference of a channel.
    The limit is the 99th percentile of the change between seeds of the old version, over all
    instances, unless one is given. An instance without a partner has changed.

    Parameters
    ----------
    at_most : float, optional
        The limit.

    Returns
    -------
    DataFrame
        One row for each instance of either version; see `COLUMNS`.

    Raises
    ------
    SegxaiError
        If the versions share no run, maps have no unit to compare values in, or there is neither
        another seed nor a limit.
    """
    newest = len(compared.places) - 1
    runs = list(compared.runs.values())
    old = _without_twins([run for run in runs if run.key[0] == 0])
    rows: list[dict[str, object]] = []
    for run in old:
        for other in runs:
            if other.key[0] == newest > 0 and other.settings == run.settings:
                twins = [one for one in runs if one.key[0] < newest and run.is_twin_of(one)]
                limit = _limit(compared, comparison, [run, *twins]) if at_most is None else at_most
                rows.extend(_rows(compared, comparison, run, other, limit))
                break
    if not rows:
        raise SegxaiError(
            f"{option('gate')}: the first and the last result share no run of the same method and "
            "options; give the old version first and the new one last"
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(("instance", "other_instance"), "Int64"))


def _without_twins(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Keep the first of those that differ in the seed alone."""
    kept: list[ComparedRun] = []
    for run in runs:
        if not any(run.is_twin_of(one) for one in kept):
            kept.append(run)
    return kept


def _limit(compared: Compared, comparison: Comparison, seeds: Sequence[ComparedRun]) -> float:
    """Compute the limit from all pairs of seeds of the old version."""
    if len(seeds) == 1 and not seeds[0].is_deterministic:
        raise SegxaiError(
            f"{option('gate')}: {compared.names[seeds[0].key]} has noise or sampled rows, and "
            "there is no run of the old version with another --seed; give one between them, "
            f"or {option('at_most', 'X')}"
        )
    changes = [
        _changes(compared, comparison, first, second)["change"]
        for first, second in combinations(seeds, 2)
    ]
    found = pd.concat(changes) if changes else pd.Series([0.0])
    return max(float(np.percentile(found, PERCENTILE)), ROUNDING)


def _changes(
    compared: Compared, comparison: Comparison, first: ComparedRun, second: ComparedRun
) -> pd.DataFrame:
    """Tabulate the change of each instance that two runs share."""
    table, names = comparison.table, compared.names
    pair = (table["first"] == names[first.key]) & (table["second"] == names[second.key])
    values = table[pair & (table["metric"] == CHANGE)]
    if values.empty and pair.any():
        raise SegxaiError(
            f"{option('gate')} compares values, and maps of {names[first.key]} and "
            f"{names[second.key]} are in different or arbitrary units; choose runs of gradients "
            "with --run"
        )
    group = ["case", "patient", "instance", "other_instance"]
    largest = values.groupby(group, sort=False)["value"].max()
    return largest.rename("change").reset_index()


def _rows(
    compared: Compared,
    comparison: Comparison,
    old: ComparedRun,
    new: ComparedRun,
    limit: float,
) -> Iterator[dict[str, object]]:
    names = {"old": compared.names[old.key], "new": compared.names[new.key], "limit": limit}
    for row in _changes(compared, comparison, old, new).to_dict("records"):
        yield {**row, **names, "changed": not row["change"] <= limit}  # NaN has changed, too
    for one in comparison.alone:
        if {one.run, one.other} == {old.key, new.key}:
            label = "instance" if one.run == old.key else "other_instance"
            where = {"case": one.case, "patient": compared.patients[one.case], label: one.label}
            yield {**names, **where, "change": np.nan, "changed": True}
