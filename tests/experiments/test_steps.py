"""Steps: from which on something holds for good."""

from math import inf

import numpy as np
import pytest

from segxai.experiments.steps import settled_from, step_in_words


@pytest.mark.parametrize(
    ("holds", "first"),
    [([0, 0, 1, 1], 1.0), ([0, 1, 0, 1], 1.5), ([1, 1, 1, 1], 0.0), ([1, 1, 1, 0], inf)],
)
def test_a_step_is_the_first_from_which_something_holds_to_the_last(holds, first):
    assert settled_from(np.array([0.0, 0.5, 1.0, 1.5]), np.array(holds, dtype=bool)) == first


def test_a_step_beyond_the_last_is_written_as_such():
    assert step_in_words(1.5, 25.0) == "1.5"
    assert step_in_words(inf, 25.0) == "> 25"
