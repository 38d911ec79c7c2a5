"""Agreement: what `segxai compare` found on the results of the plan, as small tables."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

SEED = re.compile(r", seed (\d+)$")
SHOWN = {"cosine": "cosine", "top_5_overlap": "overlap of the top 5 %"}


def read(folder: Path) -> pd.DataFrame:
    """Read the pairs of runs of a comparison; runs with a second seed are its ceiling alone.

    Returns
    -------
    DataFrame
        A row for each pair, instance, channel and metric; the network and the method of each run
        are in columns of their own.
    """
    table = pd.read_csv(folder / "compare.csv")
    table = table[table["second"].notna()]
    for side in ("first", "second"):
        seed = table[side].str.extract(SEED)[0].fillna("0")
        parts = table[side].str.replace(SEED, "", regex=True).str.split(" ", n=1)
        table[f"{side}_network"], table[f"{side}_method"] = parts.str[0], parts.str[1]
        table = table[seed == "0"]
    return table


def means(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average a metric with its bounds over instances and channels, for each pair of runs."""
    columns = ["first_network", "first_method", "second_network", "second_method"]
    chosen = table[table["metric"] == metric]
    return chosen.groupby(columns, sort=False)[["value", "floor", "ceiling"]].mean().reset_index()


def square(pairs: pd.DataFrame, methods: Sequence[str], column: str) -> np.ndarray:
    """Arrange a column of `means` by both methods: symmetric, NaN where it is not known."""
    found = np.full((len(methods), len(methods)), np.nan)
    place = {name: number for number, name in enumerate(methods)}
    for row in pairs.to_dict("records"):
        i, j = place.get(row["first_method"]), place.get(row["second_method"])
        if i is not None and j is not None:
            found[i, j] = found[j, i] = row[column]
    return found


def families(matrix: np.ndarray, methods: Sequence[str], least: float) -> list[list[str]]:
    """Group methods so that within a group each two agree by at least this much, largest first.

    Groups are joined by complete linkage: the worst pair of both decides.
    """
    groups = [[number] for number in range(len(methods))]
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        worst = {
            (i, j): np.nan_to_num(matrix[np.ix_(groups[i], groups[j])], nan=-1).min()
            for i, j in pairs
        }
        i, j = max(pairs, key=worst.__getitem__)
        if worst[i, j] < least:
            break
        groups[j] += groups.pop(i)
    named = [[methods[number] for number in sorted(group)] for group in groups]
    return sorted(named, key=len, reverse=True)
