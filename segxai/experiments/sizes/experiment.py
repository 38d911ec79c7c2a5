"""Sizes: how a map's peak depends on the lesion's size, by mean and by signed max (section 3.1).

The mean of many rows has lower peaks the more voxels a domain has, and the signed max does not:
that is why the paper compares lesions by the latter.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.drawing import COLOURS, STYLE, chart, label_logarithmic
from segxai.experiments.frame import Experiment, Measured, Report, joined
from segxai.experiments.peaks import extremes, size_column
from segxai.statistics.estimate import Estimate, too_few
from segxai.statistics.paired import paired_t
from segxai.tables.domains import tabulate
from segxai.text import plural

FEWEST = 5  # lesions, for a correlation
RUN = ["model", "method", "aggregator", "score", "channel"]


def sizes() -> Experiment:
    """Build the experiment."""

    def measure(case: CaseFile) -> Measured:
        table = tabulate(case.path)
        found = extremes(table)
        kept = found[(found["extreme"] == "peak") & (found["outcome"] != "TN")]
        return Measured(
            {"peaks": kept.assign(unit_of_size=size_column(table) if len(kept) else "")}
        )

    return Experiment(name="sizes", measure=measure, report=report)


def report(measured: Sequence[tuple[CaseFile, Measured]]) -> Report:
    """Report the experiment.

    Raises
    ------
    SegxaiError
        If there is no map of an instance with rows.
    """
    peaks = joined(measured, "peaks")
    peaks = peaks[peaks["aggregator"] != ""] if len(peaks) else peaks
    if not len(peaks):
        raise SegxaiError("no map in the results was aggregated from rows; run a gradient method")
    correlations = correlations_of(peaks)
    unit = "mm3" if peaks["unit_of_size"].iloc[0] == "volume_mm3" else "px"
    figures = {"": draw(peaks, unit)}
    tables = {"": peaks, "correlations": correlations}
    return Report(tables, figures, list(_words(peaks, correlations)))


def spearman(
    values: Float[np.ndarray, " lesion"], sizes: Float[np.ndarray, " lesion"]
) -> tuple[float, float]:
    """Return the rank correlation of all lesions and its p value; NaN with fewer than five."""
    if len(values) < FEWEST or np.ptp(values) == 0 or np.ptp(sizes) == 0:
        return float("nan"), float("nan")
    found = stats.spearmanr(values, sizes)
    return float(found.statistic), float(found.pvalue)


def within_patients(one: pd.DataFrame) -> Estimate:
    """Average the rank correlations of the patients that have five lesions or more, and t."""
    found = [
        (patient, spearman(own["value"].to_numpy(float), own["size"].to_numpy(float))[0])
        for patient, own in one.groupby("patient")
    ]
    known = [(patient, value) for patient, value in found if np.isfinite(value)]
    if not known:
        nan = float("nan")
        note = f"no patient has {FEWEST} lesions"
        return Estimate("rank correlation within patients (t)", nan, nan, nan, nan, 0, 0, note)
    patients, values = zip(*known, strict=True)
    mean = paired_t(np.array(values), np.array(patients, dtype=str))
    counted = int(one["patient"].isin(patients).sum())
    ends = (max(mean.low, -1.0), min(mean.high, 1.0)) if mean.low == mean.low else (mean.low,) * 2
    method = "rank correlation within patients (t)"
    return Estimate(method, mean.value, *ends, mean.p, counted, mean.patients, mean.note)


def correlations_of(peaks: pd.DataFrame) -> pd.DataFrame:
    """Correlate peak and size, of all lesions as if independent, and within patients."""
    rows: list[dict[str, Any]] = []
    for key, one in peaks.groupby(RUN, sort=False):
        value, p = spearman(one["value"].to_numpy(float), one["size"].to_numpy(float))
        inner = within_patients(one)
        rows.append({
            **dict(zip(RUN, key, strict=True)), "lesions": len(one),
            "patients": one["patient"].nunique(), "spearman": value,
            "p_ignoring_patients": p, "within_patients": inner.value, "low": inner.low,
            "high": inner.high, "p_within": inner.p, "patients_with_five": inner.patients,
            "headline": inner.is_headline, "note": inner.note,
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw(peaks: pd.DataFrame, unit: str) -> Figure:
    """Draw peak against size: a row for each model and score, a column for each channel."""
    rows = list(peaks.groupby(["model", "method", "score"], sort=False))
    channels = list(dict.fromkeys(peaks["channel"]))
    with rc_context(STYLE):
        figure, panels = chart(len(rows), len(channels), width=4.0, height=3.0)
        for (key, own), row in zip(rows, panels, strict=True):
            for channel, panel in zip(channels, row, strict=True):
                _draw_peaks(panel, own[own["channel"] == channel])
                panel.set(title=f"{channel}, {key[2]}", xlabel=f"size ({unit})")
            row[0].set_ylabel(f"{key[0]} {key[1]}: peak")
        figure.suptitle("Peak of the map by size of the lesion", fontsize=12)
    return figure


def _draw_peaks(panel: Axes, own: pd.DataFrame) -> None:
    panel.set(xscale="log", yscale="log")
    for number, (aggregator, one) in enumerate(own.groupby("aggregator", sort=False)):
        above = one[one["value"] > 0]
        rho, _ = spearman(one["value"].to_numpy(float), one["size"].to_numpy(float))
        words = f"{aggregator}, rank correlation {rho:+.2f}" if np.isfinite(rho) else aggregator
        colour = COLOURS[number]
        panel.scatter(above["size"], above["value"], s=14, color=colour, alpha=0.75, label=words)
        if len(above) >= FEWEST and np.ptp(above["size"]) > 0:
            x, y = np.log(above["size"]), np.log(above["value"])
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            panel.plot(np.exp(ends), np.exp(start + slope * ends), color=colour, lw=1.2)
    if not len(own):
        panel.text(0.5, 0.5, "no such channel", ha="center", transform=panel.transAxes)
        return
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    for axis in (panel.xaxis, panel.yaxis):
        label_logarithmic(axis)


def _words(peaks: pd.DataFrame, correlations: pd.DataFrame) -> Iterator[str]:
    yield "sizes: rank correlation of a map's largest value with the size of its lesion"
    for one in correlations.to_dict("records"):
        name = f"{one['model']} {one['method']} {one['aggregator']}, {one['score']}"
        name, lesions = f"{name}, {one['channel']}", plural(one["lesions"], "lesion")
        text = f"{name}: {one['spearman']:+.2f} over {lesions} of "
        text += f"{plural(one['patients'], 'patient')}, taken as independent"
        if np.isfinite(one["within_patients"]):
            text += f"; mean within patients {one['within_patients']:+.2f}"
        if one["headline"] and np.isfinite(one["low"]):
            text += f" ({one['low']:+.2f} to {one['high']:+.2f})"
        few = f"{name}: cannot tell from {lesions} (fewer than {FEWEST}, or all alike)"
        yield text if np.isfinite(one["spearman"]) else few
    missing = {"mean", "signed_max"} - set(peaks["aggregator"])
    if missing:
        yield (
            f"no map is aggregated by {' or '.join(sorted(missing))}, so that the two are not "
            "compared: run with --aggregator mean,signed_max"
        )
    if reason := too_few(int(correlations["patients"].max())):
        yield reason
