"""How the paper's claims about maps, peaks and scores are read from the tables of experiments.

Each function asks one question in every setting that was measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tables import FEWEST, FEWEST_PATIENTS, Tables
from verdicts import Observation, Observations, holds

ORDER = ("TN", "FN", "FP", "TP")
AROUND = ("1-2", "2-3", "3-4", "4-5")
RATES = {"TPR": "tpr_of_reference", "FDR": "fdr_of_predicted", "FNR": "fnr_of_reference"}
PAPER_SCORES = {  # nDSC and these rates
    "ms_lesion": (0.71, 79, 37, 20),
    "nnunet": (0.78, 78, 38, 22),
    "swin_unetr": (0.80, 85, 36, 14),
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Parameters
    ----------
    text, number, where : str
        What is claimed, with which figures, in which section.
    experiment : str
        The command that tests it.
    rule : str
        When it holds.
    observe : callable
        Reads what was observed from the tables.
    reasons : str
        Why it fails where it does: model, data, or us.
    """

    text: str
    number: str
    where: str
    experiment: str
    rule: str
    observe: Callable[[Tables], Observations]
    reasons: str = ""


# -------------------------------------------------------------------------------------- modalities


def _nets(
    tables: Tables, regions: tuple[str, ...]
) -> Iterator[tuple[dict[str, str], pd.Series, int]]:
    """Average maps of TP over some regions: the median over lesions, by channel."""
    for setting, own in tables.groups("modalities", "aggregator", "score", outcome="TP"):
        some = own[own["region"].isin(regions)]
        sums = some.groupby(["case", "label", "channel"])[
            ["voxels", "positive_sum", "negative_sum"]
        ].sum()
        net = (sums["positive_sum"] + sums["negative_sum"]) / sums["voxels"]
        yield setting, net.groupby("channel").median(), len(net) // net.index.levels[2].size


def signs_inside(tables: Tables) -> Observations:
    """Ask whether maps are positive in FLAIR and negative in MPRAGE, in the domain."""
    for setting, net, n in _nets(tables, ("inside", "border")):
        says = net["flair"] > 0 > net["mprage"]
        yield Observation(setting, _signed(net), n, holds(says, n))


def signs_around(tables: Tables) -> Observations:
    """Ask for the opposite signs from 1 to 5 mm away."""
    for setting, net, n in _nets(tables, AROUND):
        says = net["flair"] < 0 < net["mprage"]
        yield Observation(setting, _signed(net), n, holds(says, n))


def _signed(net: pd.Series) -> str:
    return ", ".join(f"{name} {net[name]:+.2g}" for name in ("flair", "mprage"))


def medians(tables: Tables) -> Observations:
    """Ask whether medians of what the cut leaves have the paper's signs and order."""
    inside = {"outcome": "TP", "region": "inside"}
    for setting, own in tables.groups("modalities", "aggregator", "score", **inside):
        positive = own.loc[own["channel"] == "flair", "median_positive"].dropna()
        negative = own.loc[own["channel"] == "mprage", "median_negative"].dropna()
        n, high, low = min(len(positive), len(negative)), positive.median(), negative.median()
        told = f"FLAIR positive {high:.3f}, MPRAGE negative {low:.3f}"
        text = told if n else "the cut leaves nothing of one of them"
        yield Observation(setting, text, n, holds(high > -low > 0, n))


def channels(tables: Tables) -> Observations:
    """Ask whether FLAIR has the larger mean magnitude in the domain, for each outcome."""
    for setting, own in tables.groups("modalities_lesions", "aggregator", "score"):
        wide = own.pivot_table(
            index=["case", "label", "outcome"], columns="channel", values="weight"
        )
        ratio = (wide["flair"] / wide["mprage"]).groupby("outcome")
        told = ratio.median()[ratio.size() >= FEWEST].reindex(ORDER).dropna()
        n = int(ratio.size()[told.index].min()) if len(told) else int(ratio.size().max())
        text = ", ".join(f"{name} {value:.1f}" for name, value in told.items())
        yield Observation(setting, f"FLAIR / MPRAGE: {text}", n, holds((told > 1).all(), n))


# ---------------------------------------------------------------------------------------- outcomes


def _medians(
    tables: Tables, extreme: str, outcomes: tuple[str, ...] = ORDER
) -> Iterator[tuple[dict[str, str], pd.Series, int]]:
    groups = tables.groups(
        "outcomes_groups", "aggregator", "score", channel="flair", extreme=extreme
    )
    for setting, own in groups:
        own = own.set_index("outcome").reindex(outcomes).dropna(subset=["domains"])
        yield setting, own["median"], int(own["domains"].min()) if len(own) == len(outcomes) else 0


def _order(tables: Tables, extreme: str, sign: int) -> Observations:
    for setting, medians, n in _medians(tables, extreme):
        if setting["aggregator"] == "signed_max":
            text = ", ".join(f"{name} {value:.3g}" for name, value in medians.items())
            says = (np.diff(sign * medians) > 0).all()
            yield Observation(setting, text, n, holds(says, n))


def peaks_rise(tables: Tables) -> Observations:
    """Ask whether medians of the largest values rise from TN to TP."""
    yield from _order(tables, "peak", 1)


def troughs_fall(tables: Tables) -> Observations:
    """Ask whether medians of the smallest values fall from TN to TP."""
    yield from _order(tables, "trough", -1)


def matched(tables: Tables) -> Observations:
    """Ask whether a TP peaks higher than its own control of the same shape."""
    peaks = tables.groups("outcomes", "aggregator", "score", channel="flair", extreme="peak")
    for setting, own in peaks:
        controls = own[own["kind"] == "matched"].set_index(["case", "source"])["value"]
        lesions = own[own["outcome"] == "TP"].set_index(["case", "label"])["value"]
        controls.index = controls.index.set_names(["case", "label"])
        ratio = (lesions / controls).dropna()
        if len(ratio):
            text = f"TP / its control: median {ratio.median():.3g}"
            text += f", above 1 in {int((ratio > 1).sum())} of {len(ratio)}"
            yield Observation(
                setting, text, len(ratio), holds((ratio > 1).mean() > 0.9, len(ratio))
            )


def differ(tables: Tables) -> Observations:
    """Ask whether all pairs of outcomes differ, by a rank sum that knows patients."""
    effects = tables.groups(
        "outcomes_effects", "aggregator", "score", channel="flair", extreme="peak", comparison="raw"
    )
    for setting, own in effects:
        some = own[own["statistic"].str.contains("Datta")]
        if setting["aggregator"] != "signed_max" or not len(some):
            continue
        patients, worst = int(some["patients"].min()), some["p_holm"].max()
        pairs = int((some["p_holm"] < 0.05).sum())
        largest = "too few patients for a p" if np.isnan(worst) else f"the largest p {worst:.2g}"
        text = f"{pairs} of {len(some)} pairs below 0.05 (Holm), {largest}"
        says = pairs == len(some) == 6
        yield Observation(setting, text, patients, holds(says, patients, FEWEST_PATIENTS))


def factor(low: float, high: float) -> Callable[[Tables], Observations]:
    """Build the test whether TP peak so many times higher than TN."""

    def observe(tables: Tables) -> Observations:
        for setting, medians, n in _medians(tables, "peak", ("TN", "TP")):
            if n:
                ratio = medians["TP"] / medians["TN"]
                says = low <= ratio <= high
                yield Observation(setting, f"TP / TN {ratio:.3g}", n, holds(says, n))

    return observe


# ------------------------------------------------------------------------------------------- sizes


def sizes(tables: Tables) -> Observations:
    """Ask whether peaks of the mean fall with the volume, and those of the signed max do not."""
    for setting, own in tables.groups("sizes_correlations", "score", channel="flair"):
        rho = own.set_index("aggregator")["spearman"]
        if {"mean", "signed_max"} <= set(rho.index):
            n = int(own["lesions"].min())
            text = (
                f"rank correlation {rho['mean']:+.2f} (mean), {rho['signed_max']:+.2f} (signed max)"
            )
            says = rho["mean"] < -0.3 <= rho["signed_max"]
            yield Observation(setting, text, n, holds(says, n, 10))


# ------------------------------------------------------------------------------------------- scores


def scores(tables: Tables) -> Observations:
    """Ask whether scores are within 10 points of the paper's, over ten patients or more."""
    for setting, own in tables.groups("scores", match="any", subset="all"):
        last = own[own["scope"] == "cohort"]
        one = last.iloc[0] if len(last) else own.iloc[0]
        ndsc, *rates = PAPER_SCORES[setting["model"]]
        found = {name: 100 * one[column] for name, column in RATES.items()}
        told = ", ".join(f"{name} {rate:.0f} %" for name, rate in found.items())
        text = f"nDSC {one['ndsc']:.2f}, {told}"
        near = [
            abs(ndsc - one["ndsc"]) <= 0.1,
            *(abs(a - b) <= 10 for a, b in zip(rates, found.values(), strict=True)),
        ]
        patients = 1 if setting["data"].startswith("phantoms") else int(one["scans"])
        yield Observation(setting, text, patients, holds(all(near), patients, FEWEST_PATIENTS))


def flags(tables: Tables) -> Observations:
    """Ask whether saliency adds to the AUC of all baselines: the interval lies above 0."""
    for setting, own in tables.groups("flags_scores", "aggregator", features="both less baseline"):
        one = own.iloc[0]
        text = f"adds {one['value']:+.3f} to the AUC ({one['low']:+.3f} to {one['high']:+.3f})"
        n = int(one["patients"])
        yield Observation(setting, text, n, holds(one["low"] > 0, n, FEWEST_PATIENTS))
