"""Modalities: the tables, the figures and the words."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.frame import Measured, Report, joined
from segxai.experiments.modalities.figure import draw_boxes, draw_profile
from segxai.experiments.modalities.ranks import rank_words, ranks_of
from segxai.experiments.modalities.weights import (
    DOMAIN,
    LESION,
    comparisons_of,
    lesions_of,
    profile_of,
)
from segxai.experiments.peaks import RUN, name_of_run, rows_with
from segxai.statistics.estimate import too_few
from segxai.text import plural

PAPER_CUT = 0.1
VALUE = ["model", "case", "label", "score", "channel"]  # one Shapley value each


def report(measured: Sequence[tuple[CaseFile, Measured]], *, cut: float, replaced: str) -> Report:
    """Report the experiment.

    Raises
    ------
    SegxaiError
        If no map has channels.
    """
    regions, values = joined(measured, "regions"), joined(measured, "shapley")
    if not len(regions):
        raise SegxaiError("no map in the results has channels; run a gradient method")
    weights, profile = lesions_of(measured), profile_of(regions)
    tests, ranks = comparisons_of(weights), ranks_of(weights, [*RUN, "outcome"])
    tables = {"": regions, "lesions": weights, "profile": profile, "tests": tests}
    if len(values):
        values = values.drop_duplicates(VALUE)  # two results of a scan, of other methods
        tables |= {"shapley": values, "ranks": ranks}
    figures = {"": draw_boxes(weights, values), "profile": draw_profile(profile)}
    words = [*_words(regions, weights, profile, tests, ranks, cut), *_left_out(measured)]
    if len(values):
        words.append(f"Shapley values: a channel that is taken away is {replaced}")
    return Report(tables, figures, words)


def _words(
    regions: pd.DataFrame,
    weights: pd.DataFrame,
    profile: pd.DataFrame,
    tests: pd.DataFrame,
    ranks: pd.DataFrame,
    cut: float,
) -> Iterator[str]:
    yield (
        "modalities: maps in each channel, inside a domain, at its border, and in shells around it "
        "(distances in mm; in pictures, pixels)"
    )
    for key, one in weights.groupby([*RUN, "outcome"], sort=False):
        lesions, patients = one.groupby(LESION).ngroups, one["patient"].nunique()
        same = dict(zip([*RUN, "outcome"], key, strict=True))
        unit = rows_with(regions, same)["unit"].iloc[0].replace("score", key[3], 1)
        yield (
            f"{name_of_run(key)}, {key[3]}, {key[4] or 'all'}: {plural(lesions, 'domain')} of "
            f"{plural(patients, 'patient')}; values in {unit}"
        )
        yield from _signs(rows_with(profile, same))
        yield from _pairs(rows_with(tests, same))
        yield from rank_words(one, rows_with(ranks, same) if len(ranks) else ranks)
    if weights["channel"].nunique() == 1:
        yield "one channel: there is no pair to compare"
    else:
        yield "p: t test of the patients' means, corrected by Holm over the pairs of channels"
    if cut:
        yield f"medians leave out magnitudes below {cut:g}; sums and tests leave out nothing"
    else:
        yield f"medians leave out nothing; those of the paper need --cut {PAPER_CUT:g}"
    if reason := too_few(weights["patient"].nunique()):
        yield reason


def _left_out(measured: Sequence[tuple[CaseFile, Measured]]) -> Iterator[str]:
    """Say which results have no Shapley values, and why."""
    for row in joined(measured, "left_out").to_dict("records"):
        yield f"no Shapley values of {row['case']}: {row['reason']}"


def _signs(profile: pd.DataFrame) -> Iterator[str]:
    """Say the sign of each channel from the inside outwards, and where it turns."""
    for channel, one in profile.groupby("channel", sort=False):
        parts = []
        for name, run in one.groupby((np.sign(one["net"]).diff() != 0).cumsum(), sort=False):
            del name
            ends = run["region"].iloc[0], run["region"].iloc[-1]
            sign = {1.0: "positive", -1.0: "negative", 0.0: "0"}[float(np.sign(run["net"].iloc[0]))]
            where = ends[0] if ends[0] == ends[1] else f"from {ends[0]} to {ends[1]}"
            parts.append(f"{sign} {where}")
        inside = one[one["region"].isin(DOMAIN)]
        medians = ", ".join(
            f"{sign} {inside[f'median_{sign}'].mean():.3g}"
            for sign in ("positive", "negative")
            if inside[f"median_{sign}"].notna().any()
        )
        yield f"  {channel}: {', '.join(parts)}; medians in the domain: {medians}"


def _pairs(tests: pd.DataFrame) -> Iterator[str]:
    means = tests[tests["statistic"].str.startswith("mean") & (tests["question"] == "weight")]
    for row in means.to_dict("records"):
        interval = f" ({row['low']:.3g} to {row['high']:.3g})" if row["headline"] else ""
        p = f", p {row['p_holm']:.2g}" if row["p_holm"] == row["p_holm"] else ""
        more = row["first"] if row["value"] > 0 else row["second"]
        yield (
            f"  mean magnitude of {row['first']} less that of {row['second']}: {row['value']:.3g}"
            f"{interval}{p}; {more} weighs more"
        )
