"""Differences for equal covariates: against least squares, and in simulation."""

import numpy as np
import pytest
from scipy import stats

from segxai.errors import SegxaiError
from segxai.statistics.adjusted import gee_difference
from workbench.cohorts import cohort


def test_one_lesion_a_patient_is_least_squares():
    generator = np.random.default_rng(1)
    volume = generator.standard_normal(60)
    in_first = generator.random(60) < 0.4
    values = 2 * in_first + 0.7 * volume + generator.standard_normal(60)
    found = gee_difference(values, in_first, np.arange(60), covariates={"log volume": volume})
    design = np.stack([np.ones(60), in_first, volume], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    wanted = inverse @ design.T @ values
    assert found.value == pytest.approx(wanted[1], rel=1e-6)
    # Mancl and DeRouen's covariance for independent rows: residuals over 1 - leverage (HC3).
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    residuals = (values - design @ wanted) / (1 - leverage)
    error = np.sqrt((inverse @ (design.T * residuals**2) @ design @ inverse)[1, 1])
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 57) * error, rel=1e-5)
    assert found.p == pytest.approx(2 * stats.t.sf(found.value / error, 57), rel=1e-4)
    assert "log volume" in found.method


def test_a_difference_that_the_covariate_explains_goes_away():
    generator = np.random.default_rng(2)
    patients = np.repeat(np.arange(20), 30)
    volume = generator.standard_normal(600)
    in_first = generator.random(600) < 1 / (1 + np.exp(-2 * volume))
    values = volume + generator.standard_normal(600) + generator.standard_normal(20)[patients]
    assert gee_difference(values, in_first, patients).p < 1e-6
    found = gee_difference(values, in_first, patients, covariates={"log volume": volume})
    assert found.low < 0 < found.high


def test_few_patients_are_refused():
    values, in_first = np.arange(6.0), np.arange(6) % 2 == 0
    with pytest.raises(SegxaiError, match="2 patients"):
        gee_difference(values, in_first, np.arange(6) // 3)


def test_a_covariate_that_is_the_group_is_refused():
    patients = np.repeat(np.arange(10), 3)
    in_first = np.arange(30) % 2 == 0
    with pytest.raises(SegxaiError, match="same"):
        gee_difference(
            np.arange(30.0), in_first, patients, covariates={"same": in_first.astype(float)}
        )


def test_a_fit_that_does_not_converge_is_no_estimate():
    generator = np.random.default_rng(4)
    values = generator.standard_normal(16)
    values[1::2] = 0.1 * generator.standard_normal(8) - values[::2]  # unlike within a patient
    in_first, patients = np.tile([True, False], 8), np.repeat(np.arange(8), 2)
    volume = {"log volume": generator.standard_normal(16)}
    with pytest.raises(SegxaiError, match="did not converge"):
        gee_difference(values, in_first, patients, covariates=volume)


def rejected(runs, *, within=False, **how):
    generator = np.random.default_rng(4)
    found = (gee_difference(*cohort(generator, 20, **how), within=within) for _ in range(runs))
    return np.mean([one.p < 0.05 for one in found])


def test_in_simulation_it_holds():
    assert rejected(60, design="size") < 0.05 + 3 * 0.0281
    assert rejected(40, within=True, design="level") < 0.05 + 3 * 0.0345
