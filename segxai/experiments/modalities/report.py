"""Modalities: profiles, tests between channels, the figures and the words."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segxai.errors import SegxaiError
from segxai.experiments.comparisons import row_of, with_holm
from segxai.experiments.drawing import (
    STYLE,
    chart,
    colour_of,
    legend_below,
    signed_logarithmic,
)
from segxai.experiments.frame import CaseFile, Measured, Report, joined
from segxai.experiments.modalities.ranks import rank_words, ranks_of, with_shapley
from segxai.statistics.estimate import FEWEST_PATIENTS
from segxai.statistics.paired import paired_t, signed_rank

RUN = ["model", "method", "aggregator", "score"]
LESION = ["case", "patient", "run", "label"]
DOMAIN = ("inside", "border")
PARTS = ("positive", "negative")
ORDER = ("TP", "FP", "FN", "TN", "")
PAPER_CUT = 0.1
TESTS = (paired_t, signed_rank)
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


# ------------------------------------------------------------------------------------- the figures


def draw_boxes(weights: pd.DataFrame, values: pd.DataFrame) -> Figure:
    """Draw what each channel weighs: a row for each run, a panel for each outcome.

    That is the positive and negative part of its map inside the domain, and in rows below, where
    there are any, its Shapley value.
    """
    rows: list[tuple[str, str, pd.DataFrame, Sequence[str]]] = [
        (f"{' '.join(part for part in key[:3] if part)}\nmean in the domain", key[3], own, PARTS)
        for key, own in weights.groupby(RUN, sort=False)
    ]
    for key, own in values.groupby(["model", "score"], sort=False) if len(values) else ():
        rows.append((f"{key[0]}\nShapley value", key[1], own, ["shapley"]))
    outcomes = [name for name in ORDER if (weights["outcome"] == name).any()]
    colours = colour_of(list(dict.fromkeys(weights["channel"])))
    with rc_context(STYLE):
        figure, panels = chart(len(rows), len(outcomes), width=3.2, height=2.9)
        for (name, score, own, parts), row in zip(rows, panels, strict=True):
            for outcome, panel in zip(outcomes, row, strict=True):
                one = own[own["outcome"] == outcome]
                _draw_boxes(panel, one, colours, parts)
                count = len(one) // max(one["channel"].nunique(), 1)
                panel.set_title(f"{outcome or 'all'}: {count}, {score}")
            row[0].set_ylabel(name)
        below = ", and its Shapley value" if len(values) else ""
        title = f"Positive and negative part of each channel's map in the domain{below}"
        figure.suptitle(title, fontsize=12)
    return figure


def _draw_boxes(
    panel: Axes, one: pd.DataFrame, colours: dict[str, str], parts: Sequence[str]
) -> None:
    spread = np.random.default_rng(0)
    for place, (channel, colour) in enumerate(colours.items()):
        own = one[one["channel"] == channel]
        for name in parts:
            values = own[name].to_numpy(float)
            if not len(values):
                continue
            box: Any = panel.boxplot(
                values, positions=[place], widths=0.5, showfliers=False, patch_artist=True
            )
            for part in box["boxes"]:
                part.set(facecolor=colour, alpha=0.3, edgecolor=colour)
            for part in (*box["medians"], *box["whiskers"], *box["caps"]):
                part.set(color=colour)
            around = place + spread.uniform(-0.12, 0.12, len(values))
            panel.scatter(around, values, s=5, color=colour, linewidths=0, zorder=3)
    panel.set_xticks(range(len(colours)), list(colours))
    panel.axhline(0, color="#888888", lw=0.8)


def draw_profile(profile: pd.DataFrame) -> Figure:
    """Draw the mean of each region from the inside outwards: a panel for each outcome."""
    runs = list(profile.groupby(RUN, sort=False))
    outcomes = [name for name in ORDER if (profile["outcome"] == name).any()]
    regions = list(dict.fromkeys(profile["region"]))
    colours = colour_of(list(dict.fromkeys(profile["channel"])))
    with rc_context(STYLE):
        figure, panels = chart(len(runs), len(outcomes), width=4.0, height=3.0)
        for (key, own), row in zip(runs, panels, strict=True):
            for outcome, panel in zip(outcomes, row, strict=True):
                _draw_profile(panel, own[own["outcome"] == outcome], regions, colours)
                panel.set_title(f"{outcome or 'all'}, {key[3]}")
            row[0].set_ylabel(f"{' '.join(part for part in key[:3] if part)}\nmean of the region")
        legend_below(figure, panels[0][0], columns=3 * len(colours))
        figure.suptitle("Maps from the inside of a domain outwards (distances in mm or px)")
    return figure


def _draw_profile(
    panel: Axes, own: pd.DataFrame, regions: Sequence[str], colours: dict[str, str]
) -> None:
    for channel, colour in colours.items():
        one = own[own["channel"] == channel].set_index("region").reindex(regions)
        places = np.arange(len(regions))
        panel.fill_between(places, one["negative"], one["positive"], color=colour, alpha=0.15, lw=0)
        panel.plot(places, one["net"], "-o", ms=3, color=colour, label=f"{channel}: mean")
    panel.plot([], [], color="#bbbbbb", lw=6, alpha=0.6, label="its positive and negative parts")
    panel.axhline(0, color="#888888", lw=0.8)
    panel.set_xticks(range(len(regions)), regions, rotation=60, fontsize=7)
    signed_logarithmic(panel, float(own["net"].abs().max()) if len(own) else 0.0)


# --------------------------------------------------------------------------------------- the words


def _words(
    regions: pd.DataFrame,
    weights: pd.DataFrame,
    profile: pd.DataFrame,
    tests: pd.DataFrame,
    ranks: pd.DataFrame,
    cut: float,
) -> Iterator[str]:
    yield (
        "modalities: what maps say in each channel, inside a domain, at its border and around "
        "(shells in mm or px)"
    )
    for key, one in weights.groupby([*RUN, "outcome"], sort=False):
        lesions, patients = one.groupby(LESION).ngroups, one["patient"].nunique()
        run = " ".join(part for part in key[:3] if part)
        yield f"{run}, {key[3]}, {key[4] or 'all'}: {lesions} domains of {patients} patients"
        same = dict(zip([*RUN, "outcome"], key, strict=True))
        yield from _signs(_of(profile, same))
        yield from _pairs(_of(tests, same))
        yield from rank_words(one, _of(ranks, same) if len(ranks) else ranks)
    if weights["channel"].nunique() == 1:
        yield "one channel: there is no pair to compare"
    yield f"medians leave out magnitudes below {cut:g}; sums and tests leave out nothing"
    if not cut:
        yield f"the paper's own cut is {PAPER_CUT:g}: give --cut {PAPER_CUT:g} to see its medians"
    if weights["patient"].nunique() < FEWEST_PATIENTS:
        yield (
            f"no interval is a headline: {weights['patient'].nunique()} patients, below "
            f"{FEWEST_PATIENTS}"
        )


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
            where = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
            parts.append(f"{sign} {where}")
        inside = one[one["region"].isin(DOMAIN)]
        medians = ", ".join(
            f"median {sign} {inside[f'median_{sign}'].mean():.3g}"
            for sign in ("positive", "negative")
            if inside[f"median_{sign}"].notna().any()
        )
        yield f"  {channel}: {'; '.join(parts)} ({medians} in the domain)"


def _pairs(tests: pd.DataFrame) -> Iterator[str]:
    means = tests[tests["statistic"].str.startswith("mean") & (tests["question"] == "weight")]
    for row in means.to_dict("records"):
        more = row["first"] if row["value"] > 0 else row["second"]
        interval = f" ({row['low']:.3g} to {row['high']:.3g})" if row["headline"] else ""
        p = (
            f", p {row['p_holm']:.2g} (t of patients, Holm)"
            if row["p_holm"] == row["p_holm"]
            else ""
        )
        yield (
            f"  {row['first']} less {row['second']}: mean magnitude differs by {row['value']:.3g}"
            f"{interval}{p}; {more} weighs more"
        )


def _of(table: pd.DataFrame, same: dict[str, Any]) -> pd.DataFrame:
    where = np.ones(len(table), dtype=bool)
    for name, value in same.items():
        where &= (table[name] == value).to_numpy(bool)
    return table[where]
