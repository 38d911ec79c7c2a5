"""How the paper's claims about a lesion's surroundings are read: moved lesions, and context."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from tables import Tables
from verdicts import Observation, Observations, holds

PAPER_THRESHOLD = 0.3

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
        {**setting, "detected by": "one voxel"}, text, n, holds((share > 0.5) == wanted, n)
    )
    text, says = f"mean probability {mean:.2f}", (mean > PAPER_THRESHOLD) == wanted
    yield Observation({**setting, "detected by": "the mean"}, text, n, holds(says, n))


def rim_raises_peak(tables: Tables) -> Observations:
    """Ask whether, outside of the head, the FLAIR peak is higher with a rim."""
    bare = {tuple(setting.items()): one for setting, one in _arm(tables, "outside")}
    for setting, one in _arm(tables, "outside, 3 mm rim"):
        without, n = bare[tuple(setting.items())], int(one["places"])
        for score in ("logit", "probability"):
            low, high = (part[f"flair_peak_{score}"] for part in (without, one))
            told = {**setting, "score": score}
            yield Observation(told, f"{low:.3g} without, {high:.3g} with", n, holds(high > low, n))


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
        yield Observation(setting, text, n, holds(5 <= found <= 9, n))


def deviation(tables: Tables) -> Observations:
    """Ask whether the standard deviation between lesions is largest at 2 to 4 mm."""
    for setting, curve, _ in _curves(tables):
        n, widest = int(curve["instances"].iloc[0]), curve.loc[curve["sd_probability"].idxmax()]
        text = f"{widest['sd_probability']:.2f} at {widest['step']:g} mm"
        yield Observation(setting, text, n, holds(2 <= widest["step"] <= 4, n))


def plateau(tables: Tables) -> Observations:
    """Ask whether the curve stays within 5 % of its end from 12 to 15 mm on."""
    for setting, own in tables.groups("context_plateaus", "fill", "score", grown="distance"):
        one, n = own.iloc[0], int(own["instances"].iloc[0])
        value = float(one["plateau"])
        text = f"{value:g} mm" if np.isfinite(value) else f"> {one['last_step']:g} mm"
        yield Observation(setting, text, n, holds(12 <= value <= 15, n))


def reach(tables: Tables) -> Observations:
    """Ask whether the influence is under 1 % of its peak beyond 44 mm; say where it is 0."""
    for setting, every in tables.groups("context", fill="none"):
        own = every.drop_duplicates(["case", "label"])  # each folder of fills has it
        n, near, far = len(own), own["reach"].median(), own["receptive_field"].max()
        text = f"under 1 % of the peak beyond {near:.0f} mm (median), 0 beyond {far:.0f} mm"
        yield Observation(setting, text, n, holds(near <= 44, n))
