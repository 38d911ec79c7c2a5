"""A module of networks in the current folder, and the toy that they are made of."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.own_networks import MODULE


@pytest.fixture
def toys(toys: None) -> Iterator[None]:
    """The toy, installed; modules that a test imports are forgotten after it."""
    yield
    for name in ("ownnets", "brokennets", "inner", "inner.nets", "parted"):
        sys.modules.pop(name, None)


@pytest.fixture
def case(case: Path) -> Path:
    """The current folder, with the toy's images and a module of networks."""
    (case / "ownnets.py").write_text(MODULE)
    return case
