"""Flags: whether maps tell false alarms from lesions, beyond what volume and probability tell.

A logistic regression of TP against FP, always judged on patients that it was not fitted on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from segxai.errors import SegxaiError
from segxai.experiments.cases import CaseFile
from segxai.experiments.comparisons import row_of
from segxai.experiments.flags.figure import draw
from segxai.experiments.flags.model import SETS, FlagModel, features_of, fit, left_out, names_of_set
from segxai.experiments.frame import Experiment, Measured, Report, joined
from segxai.experiments.peaks import name_of_run
from segxai.statistics.pairs import Pairs, auc_difference, jackknife_auc, within_patient_auc
from segxai.tables.domains import tabulate
from segxai.text import plural

FEWEST_FP, FEWEST_PATIENTS, FEWEST_WITH_BOTH = 10, 5, 2
FOLDS = 10  # of patients; with fewer, each patient is a fold
KEPT = 0.95  # of the TP
RUN = ["model", "method", "aggregator"]


def flags() -> Experiment:
    """Build the experiment."""

    def measure(case: CaseFile) -> Measured:
        table = tabulate(case.path)
        return Measured({"features": features_of(table).assign(**case.columns)})

    return Experiment(name="flags", measure=measure, report=report)


def report(measured: Sequence[tuple[CaseFile, Measured]]) -> Report:
    """Report the experiment.

    Raises
    ------
    SegxaiError
        If the results have no outcomes.
    """
    features = joined(measured, "features")
    known = features[features["outcome"].isin(("TP", "FP"))] if len(features) else features
    if not len(known):
        raise SegxaiError(
            "no TP or FP in the results, which a flag is to tell apart: run with a --reference"
        )
    scans = Counter(
        model
        for model, *_ in {
            (case.model, case.patient, case.session, case.case) for case, _ in measured
        }
    )  # those in which nothing is predicted, too
    parts = [
        Part.of(key, one.reset_index(drop=True), scans[key[0]])
        for key, one in known.groupby(RUN, sort=False)
    ]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    rows = [row for part in parts for row in part.rows]
    models = {
        "model" if len(parts) == 1 else f"model_{name_of_run(part.key).replace(' ', '-')}": (
            part.model.as_json()
        )
        for part in parts
        if part.model is not None
    }
    text = ["flags: TP against FP, by logistic regression on patients that it was not fitted on"]
    text += [line for part in parts for line in part.words()]
    figures = {"": draw([(name_of_run(part.key), part.table) for part in parts], rows)}
    return Report({"": table, "scores": pd.DataFrame(rows)}, figures, text, models)


@dataclass(frozen=True)
class Part:
    """What was found for one model and way of making maps.

    Parameters
    ----------
    key : tuple of str
        Model, method and aggregator.
    table : DataFrame
        Its domains; with a column for each set of features, of scores out of fold, if it can be
        told.
    rows : list of mapping
        AUC of each set, and what saliency adds.
    reason : str
        Why nothing can be told; "" otherwise.
    model : FlagModel, optional
        Fitted to all domains.
    """

    key: tuple[str, ...]
    table: pd.DataFrame
    rows: list[dict[str, Any]]
    scans: int
    reason: str = ""
    model: FlagModel | None = None

    @classmethod
    def of(cls, key: tuple[str, ...], table: pd.DataFrame, scans: int) -> "Part":
        """Evaluate all sets of features on some domains, if there are enough."""
        is_tp, patients = (table["outcome"] == "TP").to_numpy(bool), table["patient"].to_numpy(str)
        reason = why_not(is_tp, patients)
        if not reason and not names_of_set(table, "saliency"):
            reason = "no feature of the maps is known of every domain; run all with the same scores"
        if reason:
            return cls(key, table, [], scans, reason)
        scores = {
            name: out_of_fold(table[names_of_set(table, name)].to_numpy(float), is_tp, patients)
            for name in SETS
        }
        table = table.assign(**{f"score_{name}": values for name, values in scores.items()})
        about = dict(zip(RUN, key, strict=True))
        rows = list(_rows(scores, table, is_tp, patients, scans, about))
        names = names_of_set(table, "both")
        threshold = threshold_of(scores["both"], is_tp)
        model = fit(table[names].to_numpy(float), is_tp, names, threshold, about)
        return cls(key, table, rows, scans, "", model)

    def words(self) -> Iterator[str]:
        """Say what was found, in plain words."""
        counts = self.table["outcome"].value_counts()
        patients = plural(self.table["patient"].nunique(), "patient")
        yield (
            f"{name_of_run(self.key)}: {counts.get('TP', 0)} TP and {counts.get('FP', 0)} FP of "
            f"{patients} in {plural(self.scans, 'scan')}"
        )
        for text in left_out(self.table):
            yield f"  {text}"
        if self.reason:
            yield f"  cannot tell: {self.reason}"
            return
        rows = {row["features"]: row for row in self.rows}
        for row in self.rows:
            if row["statistic"].startswith("AUC, jackknife"):
                yield f"  {row['features']}: {_in_words(row)}"
        yield from _verdict(rows["both less baseline"])
        for row in self.rows:
            if row["statistic"].startswith("false alarms"):
                yield (
                    f"  {row['features']}: {row['value']:.2f} of {row['before']:.2f} false alarms "
                    f"a scan are left where {KEPT:.0%} of the TP are kept"
                )


def why_not(is_tp: Bool[np.ndarray, " domain"], patients: Shaped[np.ndarray, " domain"]) -> str:
    """Say why TP and FP cannot be compared; "" if they can."""
    false = int((~is_tp).sum())
    count, with_false = len(np.unique(patients)), len(np.unique(patients[~is_tp]))
    if false < FEWEST_FP or count < FEWEST_PATIENTS:
        return (
            f"{false} FP of {plural(count, 'patient')}, and below {FEWEST_FP} FP or "
            f"{FEWEST_PATIENTS} patients no AUC means anything"
        )
    if min(with_false, len(np.unique(patients[is_tp]))) < FEWEST_WITH_BOTH:
        return "all FP, or all TP, are of one patient"
    return ""


def out_of_fold(
    features: Float[np.ndarray, "domain feature"],
    is_tp: Bool[np.ndarray, " domain"],
    patients: Shaped[np.ndarray, " domain"],
) -> Float[np.ndarray, " domain"]:
    """Score each domain by a regression that was fitted to other patients alone.

    Returns
    -------
    ndarray of shape (domain,)
        The log-odds of being a TP.
    """
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(min(FOLDS, len(np.unique(patients))))
    scores = np.full(len(is_tp), np.nan)
    for train, test in folds.split(features, is_tp, patients):
        if len(np.unique(is_tp[train])) < 2:  # all FP are of the patients left out
            scores[test] = 0.0
            continue
        names = tuple(map(str, range(features.shape[1])))
        model = fit(features[train], is_tp[train], names, 0.0, {})
        scores[test] = model.log_odds(features[test])
    return scores


def threshold_of(scores: Float[np.ndarray, " domain"], is_tp: Bool[np.ndarray, " domain"]) -> float:
    """Return the largest threshold at or above which 95 % of the TP lie."""
    ordered = np.sort(scores[is_tp])
    may_be_lost = int((1 - KEPT) * len(ordered) + 1e-9)
    return float(ordered[may_be_lost])


def _rows(
    scores: dict[str, Float[np.ndarray, " domain"]],
    table: pd.DataFrame,
    is_tp: Bool[np.ndarray, " domain"],
    patients: Shaped[np.ndarray, " domain"],
    scans: int,
    about: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """Yield the AUCs of all sets and of each baseline by itself, and false alarms."""
    pairs = {name: Pairs.of(values, is_tp, patients) for name, values in scores.items()}
    for name, one in pairs.items():
        for estimate in (jackknife_auc, within_patient_auc):
            yield row_of(estimate(one), **about, features=name)
    for name in names_of_set(table, "baseline"):
        alone = Pairs.of(table[name].to_numpy(float), is_tp, patients)
        yield row_of(jackknife_auc(alone), **about, features=f"{name} alone, unfitted")
    yield row_of(
        auc_difference(pairs["both"], pairs["baseline"]), **about, features="both less baseline"
    )
    for name, values in scores.items():
        left = int((values[~is_tp] >= threshold_of(values, is_tp)).sum())
        yield {
            **about, "features": name, "statistic": f"false alarms a scan, {KEPT:.0%} of TP kept",
            "value": left / scans, "before": int((~is_tp).sum()) / scans, "lesions": len(is_tp),
            "patients": len(np.unique(patients)), "headline": False, "ignores_patients": True,
        }  # fmt: skip


def _in_words(row: dict[str, Any]) -> str:
    interval = f" ({row['low']:.2f} to {row['high']:.2f})" if row["headline"] else ""
    return f"AUC {row['value']:.2f}{interval}"


def _verdict(row: dict[str, Any]) -> Iterator[str]:
    """Say plainly what saliency adds to the baselines."""
    value, low, high = row["value"], row["low"], row["high"]
    interval = f" ({low:+.3f} to {high:+.3f})"
    if not row["headline"] or np.isnan(low):
        yield (
            f"  saliency adds {value:+.3f} to the AUC of all baselines; whether that is more than "
            f"nothing cannot be told with {plural(row['patients'], 'patient')}"
        )
    elif low <= 0 <= high:
        yield (
            f"  saliency adds {value:+.3f} to the AUC of all baselines{interval}: nothing that can "
            "be told from 0"
        )
    else:
        verb = "adds to" if value > 0 else "takes away from"
        yield f"  saliency {verb} the AUC of all baselines: {value:+.3f}{interval}"
