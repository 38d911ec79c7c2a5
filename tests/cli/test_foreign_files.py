"""Files of strangers and of the user: nothing is forged, overwritten or searched for elsewhere."""

import csv
import json
import os
from pathlib import Path

import h5py
import pytest
from PIL import Image

from segxai import text
from tests.commandline import segxai

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz")
QUICK = ("--method", "gradient", "--aggregator", "mean", "--instances", "2")
EVIL = "\x1b[31mred\x07\nnote: forged\u202e"
SHOWN = r"\x1b[31mred\x07\nnote: forged\u202e"


pytestmark = pytest.mark.usefixtures("toys")


def run(*options, out="r.h5"):
    return segxai(*COMMAND, *QUICK, "--out", out, *options)


# ----------------------------------------------------------------------------- control characters


@pytest.fixture
def evil(case):
    """A result in which every name is made to command a terminal, or a spreadsheet."""
    assert run().status == 0
    with h5py.File("r.h5", "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored |= {"note": EVIL, EVIL: [EVIL, {EVIL: EVIL}]}
        stored["case"]["name"] = EVIL
        file.attrs["provenance"] = json.dumps(stored)
        file["input"].attrs["case"] = EVIL
        file["instances/class"][...] = EVIL
        file["instances/outcome"][...] = "=1+1"
        for group in ("input", "attributions/gradient-mean", "summaries/gradient-mean"):
            file[f"{group}/channel"][...] = [f"@{EVIL}", "other/../x"]
        for group in ("attributions", "summaries"):
            file[group].move("gradient-mean", EVIL)
    return case


def assert_plain(words):
    """Fails if a line would do anything but show."""
    assert all(one == "\n" or text.printable(one) == one for one in words)
    assert not any(line.startswith("note: forged") for line in words.splitlines())


def test_names_from_a_file_are_escaped_in_a_terminal(evil):
    shown = segxai("show", "r.h5")
    assert shown.status == 0
    assert_plain(shown.out)
    assert f"note: {SHOWN}" in shown.out.splitlines()
    assert f"run {SHOWN}" in shown.out.splitlines()
    again = segxai("rerun", "r.h5")
    assert (again.status, again.err) == (0, "")  # the name is the file's own, however it was made
    assert_plain(again.out)
    for words in (("show", "r.h5", "--run", "x"), ("rerun", f"{EVIL}.h5")):
        assert_plain(segxai(*words).error)
    assert json.loads(segxai("show", "r.h5", "--json").out)["provenance"]["note"] == EVIL


def test_names_from_a_file_are_plain_in_names_of_files_and_cells(evil):
    done = segxai("export", "r.h5", "maps")
    assert done.status == 0, done.err
    assert_plain(done.out)
    names = sorted(one.name for one in Path("maps").iterdir())
    plain = "-[31mred--note: forged-"
    assert names == [
        f"{plain}-2-@{plain}.nii.gz",
        f"{plain}-2-other-..-x.nii.gz",
        f"{plain}.csv",
        ".segxai.sha256",
        "labels.nii.gz",
    ]
    with Path("maps", f"{plain}.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["class"], row["outcome"]) == (SHOWN, "'=1+1")
    assert f"'@{SHOWN} peak" in row
    assert float(row["other/../x trough"]) < 0  # a negative number stays a number


def test_names_from_a_file_are_plain_in_pictures(evil):
    done = segxai("show", "r.h5", "--png", "drawn")
    assert (done.status, done.err) == (0, "")
    assert [one.name for one in Path("drawn").iterdir()] == ["-[31mred--note: forged--2.png"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("plain \u00e9 \u65e5\u672c", "plain \u00e9 \u65e5\u672c"), ("\x85\x9b", r"\x85\x9b"),
     ("\u2028", r"\u2028"), ("\udc80", r"\udc80"), ("a\u200eb", r"a\u200eb")],
)  # fmt: skip
def test_what_is_printable(name, shown):
    assert text.printable(name) == shown


# ----------------------------------------------------------------------------- the user's files


def test_the_users_own_picture_is_not_replaced(drawn, case):
    Image.new("RGB", (4, 4)).save("photo.png")
    before = Path("photo.png").read_bytes()
    error = run(out="photo.h5").error
    assert "photo.png was not written" in error
    assert "or give --overwrite" in error
    assert Path("photo.png").read_bytes() == before
    assert not Path("photo.h5").exists()
    assert run("--overwrite", out="photo.h5").status == 0
    assert Path("photo.png").read_bytes() != before
    assert run(out="photo.h5").status == 0  # its own picture is replaced without a word


def test_the_pictures_of_all_runs_are_checked_before_any(drawn, case):
    two = ("--aggregator", "mean,signed_max")
    Image.new("RGB", (4, 4)).save("r-gradient-signed_max.png")
    before = Path("r-gradient-signed_max.png").read_bytes()
    error = run(*two).error
    assert "r-gradient-signed_max.png was not written by segxai" in error
    assert not Path("r.h5").exists()
    assert Path("r-gradient-signed_max.png").read_bytes() == before
    assert run(*two, "--overwrite").status == 0
    assert run(*two).status == 0


def test_drawings_and_exports_keep_the_users_own_files(case):
    assert run().status == 0
    Path("maps").mkdir()
    for name, words in (
        ("labels.nii.gz", ("export", "r.h5", "maps")),
        ("gradient-mean-2.png", ("show", "r.h5", "--png", "maps")),
    ):
        Path("maps", name).write_text("the user's")
        assert f"maps/{name}" in segxai(*words).error
        assert Path("maps", name).read_text() == "the user's"
        assert segxai(*words, "--overwrite").status == 0
        assert segxai(*words).status == 0


def test_a_link_as_out_is_resolved_first(case):
    Path("deep").mkdir()
    Path("r.h5").symlink_to("deep/real.h5")
    assert run().status == 0
    assert sorted(os.listdir("deep")) == ["real.h5", "real.png"]
    assert Path("r.h5").is_symlink()
    assert not Path("r.png").exists()
    assert segxai(*COMMAND, "--method", "gradcam++", "--append", "--out", "r.h5").status == 0
    assert sorted(os.listdir("deep")) == ["real.h5", "real.png"]


def test_out_may_not_be_a_device(case):
    assert "is not a regular file" in run(out="/dev/null").error


# ------------------------------------------------------------------------------------------- rerun


def with_source(name):
    with h5py.File("r.h5", "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored["case"]["sources"][0]["name"] = name
        file.attrs["provenance"] = json.dumps(stored)


@pytest.mark.parametrize(
    "name", ["/", "/dev/zero", "../bright.nii.gz", "x/bright.nii.gz", "..", "", "a\x1bb", "a\\b"]
)
def test_a_source_that_is_no_plain_file_name_is_refused(case, name):
    assert run().status == 0
    with_source(name)
    assert "which is no plain file name" in segxai("rerun", "r.h5").error


@pytest.mark.parametrize("name", ["zero", "**", "[a-z]*", "folder"])
def test_a_source_that_is_no_regular_file_is_not_found(case, name):
    Path("zero").symlink_to("/dev/zero")
    Path("folder").mkdir()
    assert run().status == 0
    with_source(name)
    assert f"no file {name} in ." in segxai("rerun", "r.h5").error


def test_a_rerun_looks_beside_the_result_and_not_in_linked_folders(case):
    assert run().status == 0
    Path("results").mkdir()
    Path("elsewhere").mkdir()
    Path("r.h5").rename("results/r.h5")
    assert "no file bright.nii.gz in results" in segxai("rerun", "results/r.h5").error
    for name in ("bright.nii.gz", "other.nii.gz"):
        Path(name).rename(f"elsewhere/{name}")
    Path("results/link").symlink_to("../elsewhere")
    assert "no file bright.nii.gz in results" in segxai("rerun", "results/r.h5").error
    assert segxai("rerun", "results/r.h5", "--images", "elsewhere").status == 0


def test_a_record_that_misses_something_cannot_be_repeated(case):
    assert run().status == 0
    with h5py.File("r.h5", "a") as file:
        stored = json.loads(file.attrs["provenance"])
        del stored["target"]
        file.attrs["provenance"] = json.dumps(stored)
    assert "'target'" in segxai("rerun", "r.h5").error
    assert segxai("show", "r.h5").status == 0
