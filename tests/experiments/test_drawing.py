"""Drawing: an axis can be read."""

import math

import pytest
from matplotlib import rc_context

from segxai.experiments.drawing import STYLE, chart, label_logarithmic, logarithmic_ticks


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.5, 2000, [1, 10, 100, 1000]),
        (3, 60, [5, 10, 20, 50]),
        (90, 120, [90, 100, 110, 120]),
        (8.2, 12.7, [9, 10, 11, 12]),
        (0.00031, 0.00033, None),
        (1e-7, 1e5, None),
        (1.0, 1.0001, None),
    ],
)
def test_a_logarithmic_axis_has_three_to_seven_round_labels(low, high, wanted):
    found = logarithmic_ticks(low, high)
    assert wanted is None or found == pytest.approx(wanted)
    assert 3 <= len(found) <= 7
    assert all(low <= one <= high for one in found)
    labels = [f"{one:g}" for one in found]
    assert len(set(labels)) == len(labels)
    assert all(math.isclose(float(label), one) for label, one in zip(labels, found, strict=True))


def test_labels_are_those_of_what_is_drawn():
    with rc_context(STYLE):
        figure, ((panel,),) = chart(1, 1)
        panel.set(xscale="log", yscale="log")
        panel.scatter([95.0, 118.0], [0.2, 0.9])
        label_logarithmic(panel.xaxis)
        label_logarithmic(panel.yaxis)
        figure.canvas.draw()
    for axis in (panel.xaxis, panel.yaxis):
        assert sum(bool(one.get_text()) for one in axis.get_ticklabels(which="both")) >= 3
