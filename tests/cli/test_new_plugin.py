"""`segxai new-plugin`: its package installs, runs and passes the checks; its page shows it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from segxai_ms_lesion import network as ms_lesion
from segxai_ms_lesion.adapter import EMBEDDED

import segxai as public
from segxai.cli.scaffold import MODEL, files_of, template, write_package
from segxai.plugins.registry import load_adapter
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from tests import markdown
from tests.commandline import SEGXAI, draw_nothing, install_project, process, segxai

PAGE = markdown.ROOT / "docs" / "how-to" / "write-a-plugin.md"
NAME = "lung_nodules"
PIP = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps")


@pytest.fixture
def forget(monkeypatch):
    """Packages that a test makes are imported anew by the next one."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("segxai_my_model", f"segxai_{NAME}")):
            del sys.modules[name]


# ------------------------------------------------------------------------------------ the command


def test_it_says_what_to_do_next(folder):
    done = segxai("new-plugin", NAME)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"made ./{NAME}: a plugin that works as it is; REPLACE marks what to change",
        f"  pip install --editable ./{NAME}",
        f"  segxai check {NAME}",
        f"  segxai run --plugin {NAME}",
        f"  pytest ./{NAME}",
    ]


def test_the_folder_is_the_one_that_is_asked_for(folder):
    done = segxai("new-plugin", NAME, "--folder", folder / "a place" / "of mine")
    assert f"--editable '{folder}/a place/of mine'" in done.out
    found = {
        str(path.relative_to(folder / "a place" / "of mine"))
        for path in (folder / "a place" / "of mine").rglob("*")
        if path.is_file()
    }
    assert found == {
        "README.md",
        "pyproject.toml",
        f"segxai_{NAME}/__init__.py",
        f"segxai_{NAME}/adapter.py",
        f"segxai_{NAME}/cases.py",
        f"segxai_{NAME}/network.py",
        f"tests/test_{NAME}.py",
    }


def test_an_empty_folder_is_filled(folder):
    (folder / NAME).mkdir()
    assert segxai("new-plugin", NAME).status == 0


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_is_overwritten(folder, what):
    if what == "file":
        (folder / NAME).write_text("mine")
    else:
        (folder / NAME).mkdir()
        (folder / NAME / "notes.txt").write_text("mine")
    assert f"{NAME} already exists" in segxai("new-plugin", NAME).error
    assert [path.read_text() for path in folder.rglob("*") if path.is_file()] == ["mine"]


NAMES = {
    "My-Model": "'my_model' would do",
    "3d_unet": "'d_unet' would do",
    "a  b": "'a_b' would do",
    "two__underscores": "'two_underscores' would do",
    "_mine": "'mine' would do",
    "mine_": "'mine' would do",
    "../mine": "'mine' would do",
    "läsion": "'l_sion' would do",
    "m" * 41: f"'{'m' * 40}' would do",
    "": "a letter first",
    "...": "a letter first",
    "mine\n": "'mine' would do",
}


@pytest.mark.parametrize(("name", "hint"), NAMES.items())
def test_a_name_that_cannot_be_one_is_refused(folder, name, hint):
    error = segxai("new-plugin", name).error
    assert error.startswith(f"{name!r} cannot name a plugin and its Python module: give at most 40")
    assert error.endswith(hint)
    assert list(folder.iterdir()) == []


def test_a_name_that_is_taken_is_refused(folder):
    error = segxai("new-plugin", "ms_lesion").error
    assert error.startswith("there is already an adapter 'ms_lesion', from segxai ")
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(folder):
    (folder / "file").touch()
    error = segxai("new-plugin", NAME, "--folder", "file/mine").error
    assert error.startswith("cannot write to file/mine: ")


def test_nothing_of_the_template_keeps_its_name():
    for path, text in files_of(NAME).items():
        assert "my_model" not in path + text
        assert "my-model" not in path + text
    assert files_of(MODEL) == template()
    assert 'name = "segxai-lung-nodules"' in files_of(NAME)["pyproject.toml"]


# ------------------------------------------------------------------------------------ the package


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A package as a stranger makes and installs it: its folder, and where it is installed."""
    folder = tmp_path_factory.mktemp("stranger")
    write_package(NAME, folder / NAME)
    # In an environment of its own there would be no build backend without a network.
    copied = shutil.copytree(folder / NAME, folder / "built")
    subprocess.run(
        [sys.executable, *PIP, "--no-build-isolation", "--target", folder / "site", copied],
        check=True,
    )
    return folder / NAME, {"PYTHONPATH": str(folder / "site")}


def test_the_installed_package_is_found_and_keeps_its_promises(stranger):
    _, path = stranger
    done = process("check", NAME, **path)
    assert (done.status, done.err) == (0, "")
    assert all(line.startswith("ok   ") for line in done.out.splitlines()[1:])
    listed = process("plugins", **path).out
    assert re.search(rf"adapter +{NAME} +segxai-lung-nodules +0\.1\.0", listed)


def test_the_installed_package_runs(stranger, folder):
    _, path = stranger
    done = process("run", "--plugin", NAME, "--samples", "2", **path)
    assert done.status == 0, done.err
    assert done.out.count(" TP ") == 4
    assert (folder / f"{NAME}_embedded.png").stat().st_size > 10_000
    with open_result(folder / f"{NAME}_embedded.h5") as tree:
        assert len(maps(tree, "smoothgrad-signed_max")) == 4


def test_its_own_tests_pass(stranger):
    folder, path = stranger
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "18 passed" in done.stdout


def test_it_can_be_installed_for_editing(tmp_path):
    write_package(NAME, tmp_path / NAME)
    subprocess.run(
        [sys.executable, *PIP, "--no-build-isolation", "--prefix", tmp_path / "there", "--editable",
         tmp_path / NAME],
        check=True, capture_output=True,
    )  # fmt: skip
    (site,) = (tmp_path / "there").rglob("site-packages")
    assert (site / "segxai_lung_nodules-0.1.0.dist-info" / "entry_points.txt").is_file()


# ------------------------------------------------------------------------------- what it does


@pytest.fixture
def adapter(folder, monkeypatch, forget):
    write_package(NAME, folder / NAME)
    install_project(monkeypatch, folder / NAME, folder / "site")
    return load_adapter(NAME)


def write_case(adapter, folder):
    """The embedded case as files: where its blobs are, each with a label."""
    from scipy import ndimage

    from segxai.report.nifti import save_volume

    case = adapter.embedded_case()
    for name, channel in zip(case.channels, case.image, strict=True):
        save_volume(folder / f"{name}.nii.gz", 100 + 10 * channel, case.grid)
    labels, _ = ndimage.label(case.reference)
    save_volume(folder / "blobs.nii.gz", labels, case.grid)
    return case


def test_it_reads_files_references_and_masks(adapter, folder, monkeypatch):
    write_case(adapter, folder)
    draw_nothing(monkeypatch)
    few = ["--method", "gradient", "--aggregator", "mean"]
    words = ["run", "--plugin", NAME, "t1.nii.gz", "t2.nii.gz", *few]
    numbered = segxai(*words, "--reference", "blobs.nii.gz").error
    assert numbered.startswith("the reference has the labels 1, 2, 3, 4, and which of them is blob")
    done = segxai(*words, "--reference", "blobs.nii.gz", "--reference-label", "all")
    assert done.out.count(" TP ") == 4
    assert done.out.count(" FN ") == 0
    done = segxai(*words, "--instances", "blobs.nii.gz", "--out", "mask.h5")
    assert done.status == 0
    with open_result(folder / "mask.h5") as tree:
        assert list(maps(tree, "gradient-mean")) == [1, 2, 3, 4]


def test_a_case_of_files_is_the_embedded_one(adapter, folder):
    import numpy as np

    known = write_case(adapter, folder)
    files = {name: folder / f"{name}.nii.gz" for name in known.channels}
    case = adapter.read(files, folder / "blobs.nii.gz")
    np.testing.assert_allclose(case.image, known.image, atol=1e-4)
    np.testing.assert_array_equal(case.reference != 0, known.reference)
    assert [source.role for source in case.sources] == ["t1", "t2", "reference"]


def test_mistakes_with_files_are_one_line(adapter, folder):
    import numpy as np

    from segxai.report.nifti import save_volume

    case = write_case(adapter, folder)
    tiny = np.zeros((80, 72, 64), np.int32)
    tiny[4, 4, 4], tiny[9, 9, 9] = 7, 8  # every second voxel is taken
    fine = public.Grid(tiny.shape, case.grid.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    for name in ("t1", "t2"):
        save_volume(folder / f"{name}_fine.nii.gz", np.ones(tiny.shape) + tiny, fine)
    save_volume(folder / "tiny.nii.gz", tiny, fine)
    words = ["run", "--plugin", NAME]
    error = segxai(*words, "t1.nii.gz", "t2_fine.nii.gz").error
    assert "t2" in error
    error = segxai(*words, "t1_fine.nii.gz", "t2_fine.nii.gz", "--instances", "tiny.nii.gz").error
    assert error.startswith("tiny.nii.gz: label 7 is lost on the network's grid of")


def test_a_checkpoint_takes_the_place_of_the_stand_in(adapter, folder):
    import torch

    network = adapter.load_network()
    torch.save({"state_dict": network.state_dict()}, folder / "good.pth")
    torch.save({"state_dict": {"logits.bias": torch.zeros(2)}}, folder / "bad.pth")
    again = load_adapter(NAME, folder / "good.pth").load_network().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    with pytest.raises(public.SegxaiError, match="bad.pth does not fit the network: 3 of 4"):
        load_adapter(NAME, folder / "bad.pth").load_network()


# -------------------------------------------------------------------------------------- one module


@pytest.fixture
def one_module(folder, monkeypatch, forget):
    """The adapter that the page shows, in place of all that the template has."""
    (shown,) = (one.text for one in markdown.blocks(PAGE) if "monai" in one.text)
    assert len(shown.splitlines()) <= 25
    write_package(NAME, folder / NAME)
    module = folder / NAME / f"segxai_{NAME}"
    for replaced in ("cases.py", "network.py"):
        (module / replaced).unlink()
    (module / "adapter.py").write_text(shown)
    shutil.copy(ms_lesion.weights_file(), module / "weights.safetensors")
    install_project(monkeypatch, folder / NAME, folder / "site")


def crop_case():
    """Write one window of the phantom of `ms_lesion`, with its reference."""
    for name in ("flair", "mprage", "reference"):
        whole = nib.load(EMBEDDED / f"{name}.nii.gz")
        nib.save(whole.slicer[24:120, 36:132], f"{name}.nii.gz")


def test_a_plugin_of_25_lines_is_checked_run_and_repeated(one_module, folder, monkeypatch):
    draw_nothing(monkeypatch)
    crop_case()
    done = segxai("check", NAME)
    assert done.status == 0, done.out
    assert "ok   the weights are those of the file that is named: weights.safetensors" in done.out
    run = ["run", "--plugin", NAME, "flair.nii.gz", "mprage.nii.gz", "--method", "gradient"]
    done = segxai(*run, "--aggregator", "mean", "--reference", "reference.nii.gz", "--out", "r.h5")
    assert done.out.count(" TP ") > 2, done.err
    with open_result("r.h5") as tree:
        assert tree["input"]["black"].values.tolist() == [0, 0]
    mask = ["--instances", "reference.nii.gz", "--split", "--labels", "1", "--rows", "2"]
    assert segxai(*run, *mask, "--out", "mask.h5").status == 0
    for file in ("r.h5", "mask.h5"):
        assert segxai("rerun", file).status == 0


# --------------------------------------------------------------------------------------- the page


def titled(block):
    found = re.fullmatch(r' title="(.+)"', block.info)
    return found and found[1]


def test_the_page_shows_the_package_and_nothing_else():
    shown = {}
    for block in markdown.blocks(PAGE):
        if titled(block) and block.language != "text":
            shown.setdefault(titled(block), []).append(block.text)
    whole = template()
    for path, parts in shown.items():
        for part in parts:
            assert whole[path].count(part) == 1, f"{path} is not what the page shows:\n{part}"
            whole[path] = whole[path].replace(part, "")
        assert whole[path].strip() == "", f"the page leaves out of {path}:\n{whole[path]}"
    left_out = set(whole) - set(shown)
    assert left_out == {"README.md", "segxai_my_model/__init__.py"}


def test_every_place_to_change_is_marked():
    marks = {path: text.count("REPLACE") for path, text in template().items()}
    assert all(marks[path] for path in marks if path.startswith("segxai_my_model/") and
               not path.endswith("__init__.py"))  # fmt: skip


def test_the_page_runs(folder, monkeypatch, forget):
    namespace = {"__name__": PAGE.stem, "__file__": str(PAGE)}
    for block in markdown.blocks(PAGE):
        if block.language == "python" and not titled(block):
            markdown.run_python(block, PAGE.name, namespace)
        elif block.language == "sh" and block.runs:
            for words in markdown.commands(block):
                said = markdown.run_command(words)
                if words[0] == "new-plugin":
                    install_project(monkeypatch, folder / words[1], folder / "site")
                if words[0] == "check":
                    (promised,) = (one.text for one in markdown.blocks(PAGE) if "check" in one.info)
                    assert said == promised
    with open_result(folder / "my_model.h5") as tree:
        assert len(tree["attributions"].children) == 2
        assert set(tree["instances"].to_dataset()["outcome"].values) == {"TP"}


def test_the_module_can_be_run(folder):
    done = subprocess.run([*SEGXAI, "new-plugin", NAME], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert Path(NAME, "pyproject.toml").is_file()
