"""What every test runs under: annotations checked, one thread for each worker, the real data."""

import os
from pathlib import Path

import jaxtyping
import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: workers must not share cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shapes and types are executed, here only. An int may stand for a float, as for mypy.
jaxtyping.install_import_hook(
    [
        "segxai",
        "segxai_captum",
        "segxai_ms_lesion",
        "segxai_natural_image",
        "segxai_nnunet",
        "segxai_swin_unetr",
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

pytest.register_assert_rewrite("tests.markdown")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: there is no folder {SHARED}")
    return SHARED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The toy, installed; runs and experiments draw nothing unless a test asks for `drawn`."""
    from tests.commandline import use_toys

    use_toys(monkeypatch, drawn="drawn" in request.fixturenames)


@pytest.fixture
def drawn() -> None:
    """For tests that look at the picture of a run, or save the charts of an experiment."""


@pytest.fixture
def case(folder: Path) -> Path:
    """A made-up case for the toy in the current folder."""
    from tests.commandline import make_case

    make_case(folder)
    return folder


@pytest.fixture(scope="session")
def three_methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of three methods, against a reference with one ball more and one less."""
    from tests.commandline import make_result, write_reference

    folder = tmp_path_factory.mktemp("patient_named_mueller")
    write_reference(folder / "reference.nii.gz")
    files = ("bright.nii.gz", "other.nii.gz", "--reference", "reference.nii.gz")
    command = ("run", "--plugin", "toy", *files, "--out", "r.h5")
    return make_result(
        folder,
        (*command, "--samples", "2", "--crop", "2", "--rows", "30", "--batch", "2"),
        (*command, "--method", "gradcam++", "--append"),
        (*command, "--method", "class_smoothgrad", "--samples", "1", "--append"),
    )


@pytest.fixture(scope="session")
def embedded_result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of the embedded case: every instance estimated from few rows and copies.

    Made once for all workers, in some 20 seconds.
    """
    from tests import markdown

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "ms_lesion_embedded.h5"
    with FileLock(folder / "ms_lesion_embedded.lock"):
        if not path.exists():
            few, running = ["--samples", "2", "--rows", "2"], path.with_name("running.h5")
            markdown.run_command(["run", "--plugin", "ms_lesion", *few, "--out", str(running)])
            running.rename(path)
    return path
