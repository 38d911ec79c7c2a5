"""Channel ranks: whether Shapley values and maps put the channels in the same order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from segxai.text import plural

WORDS = {
    "weight": "|Shapley value| and mean magnitude",
    "positive": "Shapley value and the map's positive part",
    "negative": "Shapley value and the map's negative part",
    "net": "Shapley value and the map's mean",
}
LEVELS = {"domain": ["case", "patient", "run", "label"], "patient": ["patient"]}


def with_shapley(weights: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Add the column `shapley` to the weights of one result; NaN where there is none."""
    if not len(values):
        return weights.assign(shapley=np.nan)
    key = ["label", "score", "channel"]
    return weights.merge(values[[*key, "shapley"]], on=key, how="left", validate="many_to_one")


def ranks_of(weights: pd.DataFrame, run: list[str]) -> pd.DataFrame:
    """Compare the order of the channels by Shapley value and by map.

    In each domain, and in each patient by the means over its domains.

    Parameters
    ----------
    weights : DataFrame
        A row for each domain, run and channel.
    run : list of str
        The columns that tell runs and outcomes apart.

    Returns
    -------
    DataFrame
        A row for each domain or patient and `measure` of the map: `rank_correlation` (Spearman's,
        over channels; NaN where all channels are equal) and `same_order`. A mean magnitude is
        compared with magnitudes of Shapley values. Empty with a single channel.
    """
    known = weights[weights["shapley"].notna()]
    known = known.assign(magnitude=known["shapley"].abs())
    rows: list[dict[str, Any]] = []
    for level, names in LEVELS.items():
        key = [*run, *names]
        means = known.groupby([*key, "channel"])[[*WORDS, "shapley", "magnitude"]].mean()
        for values, one in means.groupby(key, sort=False):
            about = {**dict(zip(key, values, strict=True)), "level": level}
            for measure in WORDS if len(one) > 1 else ():
                own = one["magnitude" if measure == "weight" else "shapley"]
                rows.append({**about, "measure": measure, **_alike(own, one[measure])})
    return pd.DataFrame(rows)


def _alike(first: pd.Series, second: pd.Series) -> dict[str, Any]:
    ranks = np.stack([rankdata(first), rankdata(second)])
    varies = (np.ptp(ranks, axis=1) > 0).all()
    return {
        "rank_correlation": float(np.corrcoef(ranks)[0, 1]) if varies else float("nan"),
        "same_order": bool((ranks[0] == ranks[1]).all()),
    }


def rank_words(weights: pd.DataFrame, ranks: pd.DataFrame) -> Iterator[str]:
    """Say the mean Shapley values of a run and outcome, and how often the orders agree."""
    means = weights.groupby("channel", sort=False)["shapley"].mean().dropna()
    if len(means):
        named = ", ".join(f"{channel} {value:+.3g}" for channel, value in means.items())
        yield f"  mean Shapley values: {named}"
    for measure, one in ranks.groupby("measure", sort=False) if len(ranks) else ():
        counts = []
        for level, own in one.groupby("level", sort=False):
            mean = own["rank_correlation"].mean()
            words = f" (mean rank correlation {mean:+.2f})" if mean == mean else ""
            counts.append(f"{own['same_order'].sum()} of {plural(len(own), str(level))}{words}")
        yield f"  same order of channels by {WORDS[str(measure)]}: in {' and '.join(counts)}"
