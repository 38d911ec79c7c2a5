"""Outcomes: peaks of maps of true and false positives, misses and healthy tissue (section 3.3).

A larger domain has a larger peak by construction, and a probability's gradient vanishes where the
probability does: so each comparison is made as it is, for equal size and shape, and adjusted.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.comparisons import adjusted, raw, row_of, with_holm
from segxai.experiments.frame import Experiment, Measured, Report, joined
from segxai.experiments.outcomes.figure import draw_forest, draw_violins
from segxai.experiments.peaks import RUN, extremes, name_of_run, rows_with
from segxai.statistics.estimate import too_few
from segxai.statistics.paired import paired_t, signed_rank
from segxai.tables.domains import tabulate
from segxai.text import plural

ORDER = ("TN", "FN", "FP", "TP")  # of the paper's peaks, upwards
GROUP = [*RUN, "channel", "extreme"]
LEAST = 2  # domains in a group, below which nothing is compared
CORRECTED = [*GROUP, "comparison", "statistic"]


def outcomes() -> Experiment:
    """Build the experiment."""

    def measure(case: CaseFile) -> Measured:
        return Measured({"peaks": extremes(tabulate(case.path))})

    return Experiment(name="outcomes", measure=measure, report=report)


def report(measured: Sequence[tuple[CaseFile, Measured]]) -> Report:
    """Report the experiment.

    Raises
    ------
    SegxaiError
        If the results have no outcomes.
    """
    peaks = joined(measured, "peaks")
    peaks = peaks[peaks["outcome"].isin(ORDER)]
    if not len(peaks):
        raise SegxaiError(
            "the results have no outcomes: run them with a --reference, for TP, FP and FN"
        )
    groups, effects = groups_of(peaks), effects_of(peaks)
    figures = {}
    runs = list(peaks.groupby(RUN[:3], sort=False))
    for key, own in runs:
        part = "" if len(runs) == 1 else name_of_run(key).replace(" ", "-")
        same = (effects[RUN[:3]] == list(key)).all(axis=1)
        figures[part] = draw_violins(own[own["kind"] != "matched"], name_of_run(key))
        figures[f"{part}_forest".lstrip("_")] = draw_forest(effects[same], name_of_run(key))
    tables = {"": peaks, "groups": groups, "effects": effects}
    return Report(tables, figures, list(_words(peaks, groups, effects)))


def groups_of(peaks: pd.DataFrame) -> pd.DataFrame:
    """Summarise each outcome: medians of all domains, and the median of the patients' medians."""
    lesions = peaks[peaks["kind"] != "matched"]
    rows = []
    for key, one in lesions.groupby([*GROUP, "outcome"], sort=False):
        by_patient = one.groupby("patient")["value"].median()
        about = dict(zip([*GROUP, "outcome"], key, strict=True))
        rows.append({
            **about, "domains": len(one), "patients": len(by_patient),
            "median": one["value"].median(), "lower_quartile": one["value"].quantile(0.25),
            "upper_quartile": one["value"].quantile(0.75),
            "median_of_patients": by_patient.median(),
            "median_size": one["size"].median(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def effects_of(peaks: pd.DataFrame) -> pd.DataFrame:
    """Compare all pairs of outcomes, and each outcome with its controls.

    Returns
    -------
    DataFrame
        A row for each statistic. `comparison` is "raw"; "adjusted" for log volume; "adjusted,
        probability" for the mean probability, too, of TP and FP, which alone share a range of it;
        or "matched": each domain less its own control of the same shape in healthy tissue.
        `p_holm` is corrected within a run, channel, extreme, comparison and statistic.
    """
    rows: list[dict[str, Any]] = []
    for key, one in peaks.groupby(GROUP, sort=False):
        about = dict(zip(GROUP, key, strict=True))
        lesions = one[one["kind"] != "matched"]
        present = [name for name in ORDER if (lesions["outcome"] == name).sum() >= LEAST]
        for second, first in combinations(present, 2):
            pair = lesions[lesions["outcome"].isin((first, second))]
            rows += [{**about, **row} for row in _pair(pair, first, second)]
        rows += [{**about, **row} for row in _matched(one)]
    return with_holm(pd.DataFrame(rows), CORRECTED) if rows else pd.DataFrame(columns=CORRECTED)


def _pair(pair: pd.DataFrame, first: str, second: str) -> Iterator[dict[str, Any]]:
    values, in_first = pair["value"].to_numpy(float), (pair["outcome"] == first).to_numpy(bool)
    patients = pair["patient"].to_numpy(str)
    about = {"first": first, "second": second}
    for found in raw(values, in_first, patients):
        yield row_of(found, comparison="raw", **about)
    volume = {"log volume": np.log(pair["size"].to_numpy(float))}
    for found in adjusted(values, in_first, patients, volume):
        yield row_of(found, comparison="adjusted", **about)
    if {first, second} == {"TP", "FP"}:
        both = {**volume, "mean probability": pair["mean_probability"].to_numpy(float)}
        for found in adjusted(values, in_first, patients, both):
            yield row_of(found, comparison="adjusted, probability", **about)


def _matched(one: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Compare each domain with its own control, by patient."""
    key = ["file", "run"]
    controls = one[one["kind"] == "matched"][[*key, "source", "value"]]
    lesions = one[one["kind"] != "matched"]
    pairs = lesions.merge(
        controls, left_on=[*key, "label"], right_on=[*key, "source"], suffixes=("", "_control")
    )
    for name in ORDER:
        own = pairs[pairs["outcome"] == name]
        if len(own):
            difference = (own["value"] - own["value_control"]).to_numpy(float)
            patients = own["patient"].to_numpy(str)
            for test in (paired_t, signed_rank):
                found = test(difference, patients)
                yield row_of(found, comparison="matched", first=name, second="its control")


# --------------------------------------------------------------------------------------- the words


def _words(peaks: pd.DataFrame, groups: pd.DataFrame, effects: pd.DataFrame) -> Iterator[str]:
    yield "outcomes: largest and smallest values of maps by outcome"
    for key, one in peaks.groupby(RUN, sort=False):
        patients = one["patient"].nunique()
        lesions = one[one["kind"] != "matched"].drop_duplicates(["file", "run", "label"])
        counts = lesions.groupby("outcome").size()
        listed = ", ".join(f"{counts[name]} {name}" for name in ORDER if name in counts)
        unit = f"; values in {one['unit'].iloc[0]}" if "unit" in one else ""
        yield f"{name_of_run(key)}, {key[3]}: {listed} of {plural(patients, 'patient')}{unit}"
        for (channel, extreme), group in one.groupby(["channel", "extreme"], sort=False):
            here = {**dict(zip(RUN, key, strict=True)), "channel": channel, "extreme": extreme}
            yield from _words_of_group(here, group, groups, effects)
    yield "AUC: the chance that a domain of the first outcome has the larger value"
    yield (
        "Cliff's delta: twice that chance, less 1; its p value is of Mann-Whitney's test, which "
        "takes all domains as independent, as the paper does"
    )
    yield "p values are corrected by Holm over the pairs of outcomes"
    if reason := too_few(peaks["patient"].nunique()):
        yield f"{reason}; compare the patients' medians in outcomes_groups.csv"
    if not (peaks["kind"] == "matched").any():
        yield "no matched controls in the results: run them with --controls matched"
    yield from _overlap(peaks)


def _words_of_group(
    here: dict[str, str], own: pd.DataFrame, groups: pd.DataFrame, effects: pd.DataFrame
) -> Iterator[str]:
    medians = rows_with(groups, here).set_index("outcome")["median"]
    known = [name for name in ORDER if name in medians]
    listed = ", ".join(f"{name} {medians[name]:.3g}" for name in known)
    sign = 1 if here["extreme"] == "peak" else -1
    rises = bool((np.diff([sign * medians[name] for name in known]) > 0).all())
    order = " < ".join(known) if len(known) > 1 else ""
    verdict = f"; {order} in magnitude: {'yes' if rises else 'no'}" if order else ""
    yield f"  {here['channel']} {here['extreme']}: medians {listed}{verdict}"
    found = rows_with(effects, here)
    if not len(found):
        return
    for (first, second), pair in found.groupby(["first", "second"], sort=False):
        yield f"    {first} against {second}: {'; '.join(_statistics(pair))}"


def _statistics(pair: pd.DataFrame) -> Iterator[str]:
    """Say the statistics that hold, and the paper's own."""
    shown = {
        "Mann-Whitney U": "Cliff's delta",
        "AUC, jackknife over patients (logit, t)": "AUC",
        "AUC within patients (mean, t)": "AUC within patients",
        "mean of patients' differences (t)": "mean difference",
    }
    for row in pair.to_dict("records"):
        name = shown.get(row["statistic"])
        if row["comparison"].startswith("adjusted") and "share" not in row["statistic"]:
            what = "volume and probability" if "probability" in row["comparison"] else "volume"
            name = f"difference for equal {what}"
        if name is None or np.isnan(row["value"]):
            continue
        interval = f" ({row['low']:.3g} to {row['high']:.3g})" if row["headline"] else ""
        interval = "" if np.isnan(row["low"]) else interval
        p = "" if np.isnan(row["p_holm"]) else f", p {row['p_holm']:.2g}"
        yield f"{name} {row['value']:.3g}{interval}{p}"


def _overlap(peaks: pd.DataFrame) -> Iterator[str]:
    """Say how far the mean probabilities of TP and FP overlap: beyond that nothing is adjusted."""
    once = peaks.drop_duplicates(["file", "label"])
    values = {name: once.loc[once["outcome"] == name, "mean_probability"] for name in ("TP", "FP")}
    if not all(len(one) for one in values.values()):
        return
    low = max(one.min() for one in values.values())
    high = min(one.max() for one in values.values())
    shares = " and ".join(
        f"{one.between(low, high).mean():.0%} of {name}" for name, one in values.items()
    )
    yield (
        f"mean probabilities of TP and FP overlap from {low:.2f} to {high:.2f}: {shares}; "
        "nothing else is adjusted for them: FN and TN lie below the threshold, and TP above"
        if low <= high
        else "mean probabilities of TP and FP do not overlap: the adjustment for them extrapolates"
    )
