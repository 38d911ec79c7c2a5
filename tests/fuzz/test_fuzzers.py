"""A dozen broken files of each kind; the modules beside this one try hundreds."""

import pytest

from tests.fuzz import checkpoints, commands, folders, images
from tests.fuzz.outcomes import verdicts


@pytest.mark.parametrize("module", [checkpoints, commands, folders, images])
def test_what_is_broken_ends_in_one_line_or_is_fine(module):
    tried = verdicts(module.fuzz, 100, range(12))
    assert [one for one in tried if not one[2].is_good] == []
