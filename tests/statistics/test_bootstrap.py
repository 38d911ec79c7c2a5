"""Patients are drawn, then their scans, then lesions of these scans."""

import numpy as np

from segxai.statistics.bootstrap import percentile_interval, resamples

PATIENTS = np.repeat([0, 1, 2], [6, 4, 2])
SCANS = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0])  # named anew in each patient


def test_a_draw_keeps_to_drawn_patients_and_scans():
    for draw in resamples([PATIENTS, SCANS], 50, seed=1):
        # Three patients and as many scans as they have; each scan has as many lesions as before.
        sizes = {0: 6, 1: 4, 2: 2}
        parts = [np.sum(PATIENTS[draw] == one) / sizes[one] for one in sizes]
        assert sum(parts) == 3
        assert all(part == int(part) for part in parts)


def test_the_same_seed_gives_the_same_draws_and_another_others():
    def drawn(seed):
        return [one.tolist() for one in resamples([PATIENTS, SCANS], 3, seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_the_spread_of_a_mean_is_that_of_patients():
    """Values that depend on the patient alone: the error is sd / sqrt(patients), not of lesions."""
    generator = np.random.default_rng(0)
    level = generator.standard_normal(40)
    patients = np.repeat(np.arange(40), 25)
    means = [level[patients][draw].mean() for draw in resamples([patients], 1000, seed=0)]
    assert np.isclose(np.std(means), level.std() / np.sqrt(40), rtol=0.1)


def test_an_interval_has_the_percentiles_of_what_resampled_lesions_give():
    patients = np.arange(12)
    values = np.random.default_rng(0).normal(size=12)

    def mean(some):
        return float(values[some].mean())

    drawn = sorted(mean(some) for some in resamples([patients], 999, seed=0))
    # 25 of 999 draws are 2.5 %: their ends are values that were drawn, never between two of them.
    assert percentile_interval(mean, [patients]) == (drawn[24], drawn[974])
    without_one = percentile_interval(lambda some: np.inf if some.min() else 0.0, [patients])
    assert without_one == (0.0, np.inf)


def test_fewer_than_ten_patients_have_no_interval():
    patients = np.repeat(np.arange(9), 3)
    assert np.isnan(percentile_interval(lambda some: float(some.mean()), [patients])).all()
