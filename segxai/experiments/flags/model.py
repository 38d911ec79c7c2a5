"""The model behind flags: its features, and how it is fitted, kept (as JSON) and applied."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from segxai.errors import SegxaiError, warn
from segxai.experiments.peaks import channels_of, size_column
from segxai.store.schema import versions
from segxai.text import plural

KIND = "segxai flag"
BASELINES = (
    "log_size", "mean_probability", "max_probability", "mean_entropy",
    "noisy_logit_deviation", "noisy_probability_deviation", "structural_uncertainty",
)  # fmt: skip
# What a result needs for a baseline that not every result has.
NEEDS = {
    "mean_entropy": "classes that exclude each other",
    "noisy_logit_deviation": "--method smoothgrad --score logit",
    "noisy_probability_deviation": "--method smoothgrad --score probability",
    "structural_uncertainty": "--tta or --fold",
}
SETS = ("baseline", "saliency", "both")
SMALLEST = 1e-12  # of a magnitude, so that it has a logarithm
INSTANCE = ["file", "case", "patient", "model", "label", "outcome"]
DOMAIN = [*INSTANCE, "method", "aggregator"]
FIELDS = {
    "features": list, "mean": list, "scale": list, "coefficients": list, "intercept": float,
    "threshold": float,
}  # fmt: skip


def features_of(table: pd.DataFrame) -> pd.DataFrame:
    """Build the features of predicted domains from a table of domains: a row each and way of maps.

    Baselines are log size, mean and largest probability, mean entropy, the standard deviation of
    the score over noisy copies and the structural uncertainty. They belong to the instance, so that
    any run of a result may know them; NaN where none does. Saliency is, for each channel and score,
    the log magnitude of peak and trough and the share of |map| inside; its columns begin with
    "saliency ".

    Raises
    ------
    SegxaiError
        If the table has no domain with a size.
    """
    predicted = table[(table["label"] != 0) & ~table["outcome"].isin(("FN", "TN"))]
    predicted = predicted[predicted["aggregator"] != ""]
    found: pd.DataFrame | None = None
    for score, one in predicted.groupby("score", sort=False):
        columns = {}
        for channel in channels_of(table):
            for extreme in ("peak", "trough"):
                magnitude = one[f"{channel}_{extreme}"].abs().clip(lower=SMALLEST)
                columns[f"saliency {score} {channel} {extreme}"] = np.log10(magnitude)
            columns[f"saliency {score} {channel} inside"] = one[f"{channel}_inside_share"]
        part = one[DOMAIN].assign(**columns).drop_duplicates(DOMAIN)
        found = part if found is None else found.merge(part, on=DOMAIN, how="outer")
    if found is None:
        return pd.DataFrame(columns=DOMAIN)
    size = size_column(predicted)
    known = predicted.assign(log_size=np.log(predicted[size]))
    known = known.reindex(columns=[*INSTANCE, *BASELINES]).groupby(INSTANCE, as_index=False).first()
    return found.merge(known, on=INSTANCE, how="left")


def names_of_set(features: pd.DataFrame, name: str) -> list[str]:
    """List the columns of a set of features: those that every domain has."""
    saliency = [column for column in features if str(column).startswith("saliency ")]
    sets = {"baseline": BASELINES, "saliency": saliency, "both": (*BASELINES, *saliency)}
    return [str(one) for one in sets[name] if features[one].notna().all()]


def left_out(features: pd.DataFrame) -> Iterator[str]:
    """Say which features are in no set, as not every domain has them, and what they need."""
    used = names_of_set(features, "both")
    for name in features:
        lacking, count = int(features[name].isna().sum()), len(features)
        of_others = lacking == count and name not in BASELINES  # another model's channels
        if name in (*DOMAIN, *used) or not lacking or of_others:
            continue
        who = "no domain has" if lacking == count else f"{lacking} of {count} domains lack"
        yield f"{name} is left out, as {who} it{_need(str(name))}"


def _need(name: str) -> str:
    return f" (needs {NEEDS[name]})" if name in NEEDS else ""


@dataclass(frozen=True)
class FlagModel:
    """A logistic regression of TP against FP on standardised features.

    Parameters
    ----------
    features : tuple of str
        Names of the features, as `features_of` gives them.
    mean, scale, coefficients : tuple of float
        Of each feature.
    intercept : float
        The log-odds at the mean of all features.
    threshold : float
        Domains with smaller log-odds are flagged.
    about : mapping
        Of which model's maps it was fitted.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    threshold: float
    about: Mapping[str, object] = field(default_factory=dict)

    def log_odds(
        self, features: Float[np.ndarray, "domain feature"]
    ) -> Float[np.ndarray, " domain"]:
        """Compute the log-odds of being a TP."""
        standard = (features - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(standard @ np.array(self.coefficients) + self.intercept)

    def as_json(self) -> str:
        """Write it as JSON."""
        return json.dumps({"kind": KIND, "versions": versions(), **asdict(self)}, indent=1)

    @classmethod
    def read(cls, path: Path) -> "FlagModel":
        """Read it from a file.

        Raises
        ------
        SegxaiError
            If it is no such file.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SegxaiError(f"cannot read {path} as a flag's model; give the .json of `segxai "
                              "experiment flags`") from error  # fmt: skip
        if not _is_model(found):
            raise SegxaiError(f"{path} holds no flag's model of `segxai experiment flags`")
        lists = {name: tuple(found[name]) for name in ("features", "mean", "scale", "coefficients")}
        return cls(**lists, intercept=found["intercept"], threshold=found["threshold"],
                   about=found.get("about", {}))  # fmt: skip


def _is_model(found: object) -> bool:
    """Return whether JSON holds what a model needs, of the right types and lengths."""
    if not isinstance(found, dict) or found.get("kind") != KIND:
        return False
    if not all(isinstance(found.get(name), kind) for name, kind in FIELDS.items()):
        return False
    numbers = [found[name] for name in ("mean", "scale", "coefficients")]
    same = all(len(one) == len(found["features"]) for one in numbers)
    plain = all(isinstance(value, int | float) for one in numbers for value in one)
    return same and plain and all(isinstance(one, str) for one in found["features"])


def fit(
    features: Float[np.ndarray, "domain feature"],
    is_tp: Bool[np.ndarray, " domain"],
    names: Sequence[str],
    threshold: float,
    about: Mapping[str, object],
) -> FlagModel:
    """Fit the regression, with scikit-learn's default penalty on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    found = LogisticRegression(max_iter=1000).fit(scaler.transform(features), is_tp)
    return FlagModel(
        tuple(names),
        tuple(scaler.mean_.tolist()),
        tuple(scaler.scale_.tolist()),
        tuple(found.coef_[0].tolist()),
        float(found.intercept_[0]),
        threshold,
        {**about, "domains": len(is_tp), "tp": int(is_tp.sum())},
    )


def _is_empty(values: pd.Series) -> bool:
    return bool(values.isna().all() and len(values))


def flagged(table: pd.DataFrame, model: FlagModel) -> pd.DataFrame:
    """Add `flag_log_odds` and `flagged` to the predicted domains of a table of domains.

    Empty for others, and where a feature is missing.

    Raises
    ------
    SegxaiError
        If the table's maps do not have the features.

    Warns
    -----
    SegxaiWarning
        If some domains do not have them.
    """
    features = features_of(table)
    if not len(features):  # nothing is predicted
        return table.assign(flag_log_odds=np.nan, flagged=pd.NA)
    missing = [name for name in model.features if name not in features or _is_empty(features[name])]
    if missing:
        count = plural(len(missing), "feature")
        why = _need(missing[0]) or ": they come from another network's channels, or lack a score"
        raise SegxaiError(
            f"the model needs {count} that these results do not have, such as {missing[0]!r}{why}"
        )
    values = features[list(model.features)].to_numpy(float)
    lacking = np.isnan(values).any(axis=1)
    if lacking.any():
        warn(
            f"{lacking.sum()} of {plural(len(lacking), 'predicted domain')} lack a feature of the "
            "model, and have no flag"
        )
    odds = pd.DataFrame(features[DOMAIN]).assign(flag_log_odds=model.log_odds(values))
    found = table.merge(odds, on=DOMAIN, how="left")
    flags = (found["flag_log_odds"] < model.threshold).astype("boolean")
    return found.assign(flagged=flags.mask(found["flag_log_odds"].isna()))
