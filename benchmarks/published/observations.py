"""How each of the paper's claims is read from the tables of segxai's experiments.

Each function asks one question in every setting that was measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tables import FEWEST, FEWEST_PATIENTS, Tables
from verdicts import Observation

Observations = Iterator[Observation]
ORDER = ("TN", "FN", "FP", "TP")
PAPER_THRESHOLD = 0.3
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


def _holds(says: object, n: int, fewest: int = FEWEST) -> bool | None:
    return bool(says) if n >= fewest else None


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
        yield Observation(setting, _signed(net), n, _holds(says, n))


def signs_around(tables: Tables) -> Observations:
    """Ask for the opposite signs from 1 to 5 mm away."""
    for setting, net, n in _nets(tables, AROUND):
        says = net["flair"] < 0 < net["mprage"]
        yield Observation(setting, _signed(net), n, _holds(says, n))


def _signed(net: pd.Series) -> str:
    return ", ".join(f"{name} {net[name]:+.2g}" for name in ("flair", "mprage"))


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
        yield Observation(setting, f"FLAIR / MPRAGE: {text}", n, _holds((told > 1).all(), n))


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
            yield Observation(setting, text, n, _holds(says, n))


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
                setting, text, len(ratio), _holds((ratio > 1).mean() > 0.9, len(ratio))
            )


def differ(tables: Tables) -> Observations:
    """Ask whether all pairs of outcomes differ, by a rank sum that knows patients."""
    effects = tables.groups(
        "outcomes_effects", "aggregator", "score", channel="flair", extreme="peak", comparison="raw"
    )
    for setting, own in effects:
        some = own[own["statistic"].str.startswith("Datta")]
        if setting["aggregator"] != "signed_max" or not len(some):
            continue
        patients, worst = int(some["patients"].min()), some["p_holm"].max()
        pairs = int((some["p_holm"] < 0.05).sum())
        text = f"{pairs} of {len(some)} pairs below 0.05 (Holm), the largest p {worst:.2g}"
        says = pairs == len(some) == 6
        yield Observation(setting, text, patients, _holds(says, patients, FEWEST_PATIENTS))


def factor(low: float, high: float) -> Callable[[Tables], Observations]:
    """Build the test whether TP peak so many times higher than TN."""

    def observe(tables: Tables) -> Observations:
        for setting, medians, n in _medians(tables, "peak", ("TN", "TP")):
            if n:
                ratio = medians["TP"] / medians["TN"]
                says = low <= ratio <= high
                yield Observation(setting, f"TP / TN {ratio:.3g}", n, _holds(says, n))

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
            yield Observation(setting, text, n, _holds(says, n, 10))


# ---------------------------------------------------------------------------------------- synthetic


def _arm(tables: Tables, arm: str) -> Iterator[tuple[dict[str, str], pd.Series]]:
    for setting, own in tables.groups("synthetic_arms", "fill", arm=arm):
        if setting["fill"] == "none":
            del setting["fill"]
        yield setting, own.iloc[0]


def moved(arm: str, *, detected: bool) -> Callable[[Tables], Observations]:
    """Build the test whether a moved lesion is mostly detected, or mostly not."""

    def observe(tables: Tables) -> Observations:
        for setting, one in _arm(tables, arm):
            n, share = int(one["places"]), one["detected"] / one["places"]
            yield from _detected(setting, share, one["mean_probability"], n, "places", detected)

    return observe


def _detected(
    setting: dict[str, str], share: float, mean: float, n: int, of: str, wanted: bool
) -> Observations:
    """Judge detection by one voxel, as in section 2.5, and by the mean, as section 3.4 reads."""
    text = f"a voxel is above the threshold in {share * n:.0f} of {n} {of}"
    yield Observation(
        {**setting, "detected by": "one voxel"}, text, n, _holds((share > 0.5) == wanted, n)
    )
    text, says = f"mean probability {mean:.2f}", (mean > PAPER_THRESHOLD) == wanted
    yield Observation({**setting, "detected by": "the mean"}, text, n, _holds(says, n))


def rim_raises_peak(tables: Tables) -> Observations:
    """Ask whether, outside of the head, the FLAIR peak is higher with a rim."""
    bare = {tuple(setting.items()): one for setting, one in _arm(tables, "outside")}
    for setting, one in _arm(tables, "outside, 3 mm rim"):
        without, n = bare[tuple(setting.items())], int(one["places"])
        for score in ("logit", "probability"):
            low, high = (part[f"flair_peak_{score}"] for part in (without, one))
            told = {**setting, "score": score}
            yield Observation(told, f"{low:.3g} without, {high:.3g} with", n, _holds(high > low, n))


# ------------------------------------------------------------------------------------------ context


def _curves(tables: Tables) -> Iterator[tuple[dict[str, str], pd.DataFrame, int]]:
    """Yield the curves by distance, with the number detected in the unchanged image."""
    for setting, own in tables.groups("context_curves", "fill", grown="distance"):
        every = tables.named("context_curves")
        whole = every[(every["fill"] == "none") & (every["data"] == setting["data"])]
        clean = whole[whole["model"] == setting["model"]].iloc[0]
        yield setting, own.sort_values("step"), int(clean["detected"])


def alone(tables: Tables) -> Observations:
    """Ask whether a lesion by itself, in its own place, is mostly not detected."""
    for setting, curve, _ in _curves(tables):
        first, n = curve.iloc[0], int(curve["instances"].iloc[0])
        share = first["detected"] / n
        yield from _detected(setting, share, first["mean_probability"], n, "lesions", False)


def enough(tables: Tables) -> Observations:
    """Ask whether all are detected from 5 to 9 mm on that are in the whole image, not before."""
    for setting, curve, whole in _curves(tables):
        n, missed = int(curve["instances"].iloc[0]), curve[curve["detected"] < whole]["step"]
        after = curve["step"][curve["step"] > missed.max()] if len(missed) else curve["step"]
        found = after.min()
        text = f"from {found:g} mm" if np.isfinite(found) else "not within the steps"
        yield Observation(setting, text, n, _holds(5 <= found <= 9, n))


def deviation(tables: Tables) -> Observations:
    """Ask whether the standard deviation between lesions is largest at 2 to 4 mm."""
    for setting, curve, _ in _curves(tables):
        n, widest = int(curve["instances"].iloc[0]), curve.loc[curve["sd_probability"].idxmax()]
        text = f"{widest['sd_probability']:.2f} at {widest['step']:g} mm"
        yield Observation(setting, text, n, _holds(2 <= widest["step"] <= 4, n))


def plateau(tables: Tables) -> Observations:
    """Ask whether the curve stays within 5 % of its end from 12 to 15 mm on."""
    for setting, own in tables.groups("context_plateaus", "fill", "score", grown="distance"):
        one, n = own.iloc[0], int(own["instances"].iloc[0])
        value = float(one["plateau"])
        text = f"{value:g} mm" if np.isfinite(value) else f"> {one['last_step']:g} mm"
        yield Observation(setting, text, n, _holds(12 <= value <= 15, n))


def reach(tables: Tables) -> Observations:
    """Ask whether the influence is under 1 % of its peak beyond 44 mm; say where it is 0."""
    for setting, every in tables.groups("context", fill="none"):
        own = every.drop_duplicates(["case", "label"])  # each folder of fills has it
        n, near, far = len(own), own["reach"].median(), own["receptive_field"].max()
        text = f"under 1 % of the peak beyond {near:.0f} mm (median), 0 beyond {far:.0f} mm"
        yield Observation(setting, text, n, _holds(near <= 44, n))


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
        yield Observation(setting, text, patients, _holds(all(near), patients, FEWEST_PATIENTS))


def flags(tables: Tables) -> Observations:
    """Ask whether saliency adds to the AUC of all baselines: the interval lies above 0."""
    for setting, own in tables.groups("flags_scores", "aggregator", features="both less baseline"):
        one = own.iloc[0]
        text = f"adds {one['value']:+.3f} to the AUC ({one['low']:+.3f} to {one['high']:+.3f})"
        n = int(one["patients"])
        yield Observation(setting, text, n, _holds(one["low"] > 0, n, FEWEST_PATIENTS))
