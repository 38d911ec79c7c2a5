"""Means are over patients, and have intervals where there are ten."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from segxai.compare.table import COLUMNS, summarised, wide


def table(patients, metric="spearman", second="b"):
    """Two instances in each scan, of one patient after the other."""
    generator = np.random.default_rng(0)
    rows = [
        {"case": f"{patient}{scan}", "patient": patient, "first": "a", "second": second,
         "instance": instance, "other_instance": instance, "channel": "flair", "metric": metric,
         "value": generator.normal(), "unit": "", "floor": 0.1, "ceiling": 0.9}
        for number, patient in enumerate(patients)
        for scan in range(1 + number % 3)
        for instance in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_ten_patients_have_an_interval_of_their_means():
    rows = table("abcdefghij")
    (found,) = summarised(rows).to_dict("records")
    means = rows.groupby("patient")["value"].mean()
    low, high = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (found["instances"], found["patients"]) == (len(rows), 10)
    assert found["value"] == pytest.approx(means.mean())
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert (found["floor"], found["ceiling"]) == pytest.approx((0.1, 0.9))


def test_nine_patients_have_none():
    (found,) = summarised(table("abcdefghi")).to_dict("records")
    assert np.isnan([found["low"], found["high"]]).all()
    assert not np.isnan(found["value"])


def test_what_is_nan_is_left_out_and_nothing_else():
    rows = table("ab")
    rows.loc[0, "value"] = np.nan
    rows["ceiling"] = np.nan
    (found,) = summarised(rows).to_dict("records")
    assert found["instances"] == len(rows) - 1
    assert np.isnan(found["ceiling"])
    rows["value"] = np.nan
    (found,) = summarised(rows).to_dict("records")
    assert (found["instances"], found["patients"]) == (0, 0)


def test_the_printed_table_has_a_row_for_a_pair_and_channel():
    rows = pd.concat([table("ab"), table("ab", "cosine"), table("ab", "energy_inside", "")])
    (found,) = wide(summarised(rows))
    assert list(found) == ["first", "second", "channel", "instances", "spearman", "cosine"]
