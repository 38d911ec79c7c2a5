"""Comparisons of two groups of lesions by the methods of `segxai.statistics`, as rows."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from segxai.errors import SegxaiError
from segxai.statistics.adjusted import gee_difference
from segxai.statistics.estimate import Estimate
from segxai.statistics.paired import holm
from segxai.statistics.pairs import Pairs, jackknife_auc, obuchowski_auc, within_patient_auc
from segxai.statistics.ranks import datta_satten, mann_whitney

Values = Float[np.ndarray, " lesion"]
Patients = Shaped[np.ndarray, " lesion"]


def row_of(found: Estimate, **about: Any) -> dict[str, Any]:
    """Write an estimate as a row, with what it is about."""
    return {
        **about,
        "statistic": found.method,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "lesions": found.lesions,
        "patients": found.patients,
        "ignores_patients": "ignores patients" in found.note,
        "headline": found.is_headline and "ignores patients" not in found.note,
        "note": found.note,
    }


def raw(
    values: Values, in_first: Bool[np.ndarray, " lesion"], patients: Patients
) -> Iterator[Estimate]:
    """Compare two groups as they are: as the paper does, and with patients as units."""
    pairs = Pairs.of(values, in_first, patients)
    yield mann_whitney(values, in_first, patients)
    yield datta_satten(values, in_first, patients)
    yield jackknife_auc(pairs)
    yield within_patient_auc(pairs)
    yield obuchowski_auc(pairs)


def adjusted(
    values: Values,
    in_first: Bool[np.ndarray, " lesion"],
    patients: Patients,
    covariates: Mapping[str, Values],
) -> Iterator[Estimate]:
    """Compare two groups for equal covariates, also within patients; why not, if that fails."""
    for within in (False, True):
        yield _or_reason(
            lambda within=within: gee_difference(  # type: ignore[misc]
                values, in_first, patients, covariates=covariates, within=within
            ),
            f"difference, GEE, for equal {', '.join(covariates)}"
            + (", the patient's share" if within else ""),
            len(values),
            len(np.unique(patients)),
        )


def _or_reason(
    estimate: Callable[[], Estimate], method: str, lesions: int, patients: int
) -> Estimate:
    try:
        return estimate()
    except SegxaiError as error:
        nan = float("nan")
        return Estimate(method, nan, nan, nan, nan, lesions, patients, str(error))


def with_holm(table: pd.DataFrame, family: list[str]) -> pd.DataFrame:
    """Add `p_holm`: p values corrected within each family of rows that agree in these columns."""
    if not len(table):
        return table.assign(p_holm=pd.Series(dtype=float))
    corrected = table.groupby(family, dropna=False)["p"].transform(
        lambda p: holm(p.to_numpy(float))
    )
    return table.assign(p_holm=corrected)
