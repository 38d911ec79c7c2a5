"""Results of the toy, for experiments."""

import pytest

from tests.commandline import make_result

RUN = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
QUICK = ("--method", "gradient", "--aggregator", "mean", "--score", "logit,probability")


@pytest.fixture(scope="session")
def toy_result(tmp_path_factory):
    """The toy's four balls, explained for both scores."""
    return make_result(tmp_path_factory.mktemp("toy"), (*RUN, *QUICK))


@pytest.fixture(scope="session")
def flat_result(tmp_path_factory):
    """The same in a picture."""
    command = ("run", "--plugin", "toy_flat", *QUICK, "--out", "r.h5")
    return make_result(tmp_path_factory.mktemp("flat"), command)
