"""The difference of two groups where a covariate is held fixed: GEE, bias-reduced, with t."""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Shaped

from segxai.errors import SegxaiError
from segxai.statistics.estimate import Estimate, t_interval, t_test
from segxai.statistics.pairs import check


def gee_difference(
    values: Float[np.ndarray, " lesion"],
    in_first: Bool[np.ndarray, " lesion"],
    patients: Shaped[np.ndarray, " lesion"],
    *,
    covariates: Mapping[str, Float[np.ndarray, " lesion"]] | None = None,
    within: bool = False,
) -> Estimate:
    """Estimate how much larger values of the first group are, for equal covariates.

    Generalised estimating equations with an exchangeable correlation within patients, the
    bias-reduced covariance of Mancl and DeRouen (Biometrics 2001;57:126), and t with as many
    degrees of freedom as there are patients less the coefficients.

    Parameters
    ----------
    values : Float[np.ndarray, "lesion"]
        What is compared, in any unit.
    in_first : Bool[np.ndarray, "lesion"]
        Whether a lesion is of the first group.
    patients : Shaped[np.ndarray, "lesion"]
        Whose lesion it is.
    covariates : Mapping[str, Float[np.ndarray, "lesion"]], optional
        What is held fixed, such as the log volume.
    within : bool, default False
        Also hold the patient's share of the first group fixed, so that a difference between
        patients is not taken for one between their lesions.

    Returns
    -------
    Estimate
        The difference in the unit of the values.

    Raises
    ------
    SegxaiError
        If there are not more patients than coefficients, a covariate follows from the others, or
        the fit does not converge.
    """
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import IterationLimitWarning

    check(values, in_first)
    _, patient = np.unique(patients, return_inverse=True)
    columns = [np.ones(len(values)), in_first.astype(float), *(covariates or {}).values()]
    if within:
        columns.append((np.bincount(patient, in_first) / np.bincount(patient))[patient])
    design = np.stack(columns, axis=1)
    count, coefficients = int(patient.max()) + 1, design.shape[1]
    if count <= coefficients:
        raise SegxaiError(
            f"{count} patients are too few for a model with {coefficients} coefficients; it needs "
            f"{coefficients + 1} at least"
        )
    if np.linalg.matrix_rank(design) < coefficients:
        names = ", ".join(covariates or ()) or "none"
        raise SegxaiError(f"the groups cannot be told from the covariates ({names}); leave one out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IterationLimitWarning)  # it is said below
        fitted = GEE(values, design, groups=patient, cov_struct=Exchangeable()).fit(
            cov_type="bias_reduced"
        )
    if not fitted.converged:
        raise SegxaiError("the fit did not converge: there is no estimate")
    value, error, freedom = float(fitted.params[1]), float(fitted.bse[1]), count - coefficients
    held = ", ".join([*(covariates or {}), *(["the patient's share"] if within else [])])
    method = f"difference, GEE (bias-reduced, t){f', for equal {held}' if held else ''}"
    low, high = t_interval(value, error, freedom)
    return Estimate(method, value, low, high, t_test(value, error, freedom), len(values), count)
