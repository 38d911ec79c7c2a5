"""A finished result of the toy."""

import shutil
from pathlib import Path

import pytest

from tests.commandline import make_result


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made-up case and its result, `r.h5`."""
    folder = tmp_path_factory.mktemp("finished")
    files = ("bright.nii.gz", "other.nii.gz", "--out", "r.h5")
    make_result(
        folder, ("run", "--plugin", "toy", *files, "--method", "gradient", "--aggregator", "mean")
    )
    return folder


@pytest.fixture
def result(finished: Path, folder: Path) -> Path:
    """That result in a copy of that folder, which is the current one."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    return Path("r.h5")
