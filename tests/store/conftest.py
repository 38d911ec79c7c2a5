"""A good result, which tests damage in one place."""

from pathlib import Path

import pytest

from segxai.store import hdf5
from tests.store.results import RUN, add, attribution, case, create, instance


@pytest.fixture
def path(folder):
    """A good result, beside a file with a secret."""
    create(Path("r.h5"))
    hdf5.start_run(Path("r.h5"), "run", {**RUN, "started": "1"})
    add(Path("r.h5"), attribution(), instance(), case())
    Path("secret.txt").write_text("TOKEN=1234" * 100)
    create(Path("other.h5"))
    return Path("r.h5")
