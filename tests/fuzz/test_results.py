"""A dozen broken results; `python -m tests.fuzz.results` tries hundreds."""

import numpy as np

from tests.fuzz.outcomes import verdicts
from tests.fuzz.results import fuzz


def test_broken_results_end_in_one_line_or_are_fine():
    tried = list(verdicts(fuzz, 100, range(12)))
    assert [one for one in tried if not one[2].is_good] == []
    assert {attempt.command[0] for _, attempt, _ in tried} > {"show", "run"}


def test_a_case_depends_on_its_seed_and_number_alone(tmp_path):
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        attempt = fuzz(np.random.default_rng((7, 3)), folder)
        made.append((attempt, (folder / "r.h5").read_bytes()))
    assert made[0] == made[1]
