"""Weights of channels: means of maps over domains, their profile outwards, and tests of pairs."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from segxai.experiments.cases import CaseFile
from segxai.experiments.comparisons import row_of, with_holm
from segxai.experiments.frame import Measured
from segxai.experiments.modalities.ranks import with_shapley
from segxai.experiments.peaks import RUN
from segxai.statistics.paired import paired_t, signed_rank

LESION = ["case", "patient", "run", "label"]
DOMAIN = ("inside", "border")
TESTS = (paired_t, signed_rank)


def lesions_of(measured: Sequence[tuple[CaseFile, Measured]]) -> pd.DataFrame:
    """Join the weights of each result, with its Shapley values."""
    parts = [
        with_shapley(weights_of(found.tables["regions"]), found.tables["shapley"])
        for _, found in measured
        if len(found.tables["regions"])
    ]
    return pd.concat(parts, ignore_index=True)


def weights_of(regions: pd.DataFrame) -> pd.DataFrame:
    """Average each map over its domain: a row for each lesion, run and channel.

    Returns
    -------
    DataFrame
        `positive` and `negative` are the sums of the values of that sign over all voxels of the
        domain, divided by their number; `weight` is the mean magnitude, `net` the mean.
    """
    inside = regions[regions["region"].isin(DOMAIN)]
    key = [*RUN, *LESION, "outcome", "channel"]
    sums = inside.groupby(key, sort=False)[["voxels", "positive_sum", "negative_sum"]].sum()
    found = pd.DataFrame(index=sums.index)
    found["positive"] = sums["positive_sum"] / sums["voxels"]
    found["negative"] = sums["negative_sum"] / sums["voxels"]
    found["weight"] = found["positive"] - found["negative"]
    found["net"] = found["positive"] + found["negative"]
    return found.reset_index()


def profile_of(regions: pd.DataFrame) -> pd.DataFrame:
    """Average over lesions: a row for each run, outcome, channel and region.

    Returns
    -------
    DataFrame
        `positive`, `negative` and `net` are means over the region's voxels, averaged over lesions
        that have the region; `patients_net` is the mean of the patients' means of `net`, and
        `positive_patients` the share of patients in whom it is above 0.
    """
    shown = regions[regions["voxels"] > 0].copy()
    shown["positive"] = shown["positive_sum"] / shown["voxels"]
    shown["negative"] = shown["negative_sum"] / shown["voxels"]
    shown["net"] = shown["positive"] + shown["negative"]
    key = [*RUN, "outcome", "channel", "region"]
    by_patient = shown.groupby([*key, "patient"], sort=False)["net"].mean()
    found = shown.groupby(key, sort=False).agg(
        lesions=("label", "size"),
        patients=("patient", "nunique"),
        positive=("positive", "mean"),
        negative=("negative", "mean"),
        net=("net", "mean"),
        median_positive=("median_positive", "median"),
        median_negative=("median_negative", "median"),
    )
    groups = by_patient.groupby(key, sort=False)
    found["patients_net"] = groups.mean()
    found["positive_patients"] = groups.agg(lambda net: float((net > 0).mean()))
    return found.reset_index()


def comparisons_of(weights: pd.DataFrame) -> pd.DataFrame:
    """Compare the weights of all pairs of channels, lesion by lesion, with patients as units.

    Also whether the mean of a channel over the domain is 0. `p_holm` is corrected over the pairs
    (or the channels) of a run, outcome and statistic.
    """
    rows: list[dict[str, Any]] = []
    for key, one in weights.groupby([*RUN, "outcome"], sort=False):
        about = dict(zip([*RUN, "outcome"], key, strict=True))
        wide = one.set_index([*LESION, "channel"])[["weight", "net"]].unstack("channel")
        patients = wide.index.get_level_values("patient").to_numpy(str)
        channels = list(dict.fromkeys(one["channel"]))
        for first, second in combinations(channels, 2):
            difference = (wide[("weight", first)] - wide[("weight", second)]).to_numpy(float)
            named = {**about, "question": "weight", "first": first, "second": second}
            rows += [row_of(test(difference, patients), **named) for test in TESTS]
        for channel in channels:
            net = wide[("net", channel)].to_numpy(float)
            named = {**about, "question": "net is 0", "first": channel, "second": ""}
            rows += [row_of(test(net, patients), **named) for test in TESTS]
    family = [*RUN, "outcome", "question", "statistic"]
    return with_holm(pd.DataFrame(rows), family)
