"""The command line: help at once, the result on stdout, progress on stderr, numbers to read."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import segxai as public
from segxai.cli import app
from tests.commandline import (
    assert_same,
    process,
    rows_of,
    segxai,
    snapshot,
    write_nifti,
    write_reference,
)
from tests.toy.segxai_toy import picture

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
QUICK = ("--method", "gradient", "--aggregator", "mean")
HEAVY = {"torch", "captum", "monai", "xarray", "h5py", "numpy", "scipy", "nibabel", "matplotlib"}
HEAVY |= {"pandas", "pyarrow", "skimage", "sklearn", "statsmodels", "dask", "distributed"}


pytestmark = pytest.mark.usefixtures("toys")

# ------------------------------------------------------------------------------------------- help

IMPORTS = """
import sys
from segxai.cli import main
sys.argv = ["segxai", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


LIGHT = ["", "--help", "--version", "plugins --json", "run --help", "cohort --help"]
LIGHT += ["experiment --help", "experiment context --help", "experiment flags --help"]
LIGHT += ["compare --help", "table --help", "flag --help", "rerun --help"]
LIGHT_IMPORTS = """
import contextlib, io, json, sys
import segxai
print(json.dumps(["import segxai", 0, "-", list(sys.modules)]))
from segxai.cli import main
for words in sys.argv[1:]:
    sys.argv, said, status = ["segxai", *words.split()], io.StringIO(), 0
    with contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as end:
            status = end.code
    print(json.dumps([words, status, said.getvalue(), list(sys.modules)]))
"""


def test_help_and_listing_import_nothing_heavy():
    command = [sys.executable, "-W", "error", "-c", LIGHT_IMPORTS, *LIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, *_ in lines] == ["import segxai", *LIGHT]
    for words, status, said, modules in lines:
        assert not status, words
        assert said, words
        assert not HEAVY & set(modules), words


THERE = __file__
HEAVIEST = {"torch", "captum", "monai", "torchvision", "transformers", "xarray"}
WRONG = {
    "a missing image": ["ms_lesion", "a.nii.gz", "b.nii.gz"],
    "a missing image of a channel": ["ms_lesion", "flair=a.nii.gz", "mprage=b.nii.gz"],
    "a missing mask": ["ms_lesion", "--instances", "mask.nii.gz"],
    "a plugin": ["ms_lesio"],
    "a method": ["ms_lesion", "--method", "smothgrad"],
    "an aggregator": ["ms_lesion", "--aggregator", "men"],
    "a score": ["ms_lesion", "--score", "lgit"],
    "an option": ["ms_lesion", "--noise", "-1"],
    "one image for two channels": ["ms_lesion", THERE],
    "two images for one": ["natural_image", THERE, THERE],
    "three images for two": ["nnunet", THERE, THERE, THERE],
    "a channel": ["swin_unetr", f"flare={THERE}", f"mprage={THERE}"],
    "a model of your own without images": ["--model", "a:b"],
    "too many images for a model of your own": ["--model", "a:b", "--channels", "t1", THERE, THERE],
}


UNFIT = {
    "an option of another method": ["ms_lesion", "--set", "patch=8"],
    "rows of a method without any": ["nnunet", "--method", "gradcam++", "--aggregator", "mean"],
}


def refused_with(*words):
    """Run a command that is refused: the error, and the modules that were imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, "run", *words], capture_output=True, text=True, check=False
    )
    error, modules = done.stderr.splitlines()[-2:]
    assert done.returncode == 2
    assert error.startswith("segxai: error: ")
    return error, set(modules.split())


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_the_arguments_is_told_before_anything_heavy_is_imported(words, folder):
    door = [] if "--model" in words else ["--plugin"]
    _, modules = refused_with(*door, *words)
    assert not HEAVIEST & modules


@pytest.mark.parametrize("words", UNFIT.values(), ids=UNFIT)
def test_what_a_method_does_not_take_is_told_before_the_network_is_imported(words, folder):
    _, modules = refused_with("--plugin", *words)
    assert not {"monai", "torchvision", "transformers"} & modules


def test_the_version_is_printed():
    assert segxai("--version").out == f"segxai {public.__version__}\n"


def test_without_words_there_is_help():
    assert segxai().out == segxai("--help").out
    assert segxai().status == 0


def commands():
    return [one.callback.__name__.replace("_", "-") for one in app.registered_commands]


def test_every_command_is_listed_with_its_first_line():
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", segxai("--help").out).split())
    making = ["run", "cohort", "join"]
    reading = ["show", "table", "flag", "export", "compare", "rerun"]
    assert commands() == [*making, *reading, "plugins", "methods", "check", "new-plugin"]
    for name, one in zip(commands(), app.registered_commands, strict=True):
        first = one.callback.__doc__.splitlines()[0]
        assert f"{name} {first}" in text


def test_the_help_of_run_has_its_options_in_panels(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    short, text = segxai("run", "--help").out, segxai("run", "--help-all").out
    assert short.count("│ --") < 25 < text.count("│ --")
    assert {"--plugin", "--help-all", "--samples"} <= set(short.split())
    assert {"--noise", "--row-tolerance"} <= set(text.split()) - set(short.split())
    panels = [text.index(f"─ {name} ") for name in (
        "Model and image", "What is explained", "How it is explained", "Output", "Computing"
    )]  # fmt: skip
    assert panels == sorted(panels)
    for option, default in {"--samples": "50", "--noise": "0.05", "--method": "smoothgrad"}.items():
        (line,) = [line for line in text.splitlines() if f"│ {option} " in line]
        assert re.search(rf"\[default: \(?{default}\)?\]", line)
    assert text.index("--samples") > panels[2] > text.index("--instances") > panels[1]


# -------------------------------------------------------------------------------------------- run


def test_the_table_is_on_stdout_and_progress_on_stderr(drawn, case):
    done = segxai(*COMMAND, *QUICK)
    assert done.status == 0
    assert done.out.splitlines()[-2:] == ["maps: r.h5", "picture: r.png"]
    assert [row[:3] for row in rows_of(done.out)] == [[label, "ball", "-"] for label in "1234"]
    assert "instances" not in done.out
    assert "4 of 4 instances" in done.err
    assert "ball" not in done.err
    with Image.open("r.png") as picture:
        assert picture.width > 400


def test_numbers_are_for_reading(result):
    stored = snapshot(result)
    for row, label in zip(rows_of(segxai(*COMMAND, *QUICK).out), range(1, 5), strict=True):
        volume, probability, *values = row[3:]
        assert volume == f"{stored['instances/volume_mm3'][label - 1]:.1f}"
        assert probability == f"{stored['instances/mean_probability'][label - 1]:.2f}"
        expected = [
            stored[f"summaries/gradient-mean/{label}/{name}"][channel]
            for channel in (0, 1)
            for name in ("peak", "trough")
        ]
        assert [float(value) for value in values] == pytest.approx(expected, rel=5e-3)
        assert all(len(value.lstrip("-0.").replace(".", "")) <= 3 for value in values)


def test_a_lower_precision_is_marked_with_its_error(case):
    done = segxai(*COMMAND, "--method", "gradient", "--precision", "tf32", "--instances", "1,2")
    assert done.status == 0, done.err
    rows = {row[0]: row for row in rows_of(done.out)}
    assert " ".join(rows["1"]).endswith("tf32: 29 rows compared, off by up to 0.0%")  # on a CPU
    with public.open_result("r.h5") as tree:
        found = public.maps(tree, "gradient-signed_max")
        assert all(found.facts(label)["precision_error"] == 0 for label in (1, 2))
    again = segxai(*COMMAND, "--method", "gradient", "--instances", "1,2")
    assert again.status == 2, "the maps of another precision are other maps"
    assert "precision" in again.error


def test_missed_instances_and_estimates_are_marked(case):
    write_reference("reference.nii.gz")
    options = ("--reference", "reference.nii.gz", "--method", "gradient", "--rows", "20")
    done = segxai(*COMMAND, *options)
    assert done.status == 0, done.err
    rows = {row[0]: row for row in rows_of(done.out)}
    assert [rows[label][2] for label in "12345"] == ["TP", "TP", "FP", "TP", "FN"]
    words = r"estimate from 20 of 40 rows, error about \d+% at the peak, \d+% anywhere"
    assert re.fullmatch(words, " ".join(rows["1"][-14:]))
    assert " ".join(rows["5"][-4:]) == "missed by the model"
    assert len(rows["4"]) < len(rows["1"])


def test_a_mean_stays_exact_and_says_so(result):
    exact = snapshot(result)
    done = segxai(*COMMAND, *QUICK, "--rows", "2", "--overwrite")
    assert done.status == 0, done.err
    assert "--rows changes nothing" in done.err
    assert "estimate" not in done.out
    assert_same(snapshot(result), exact)


def test_channels_by_name_are_the_same_as_in_order(result):
    before = result.read_bytes()
    named = ["run", "--plugin", "toy", "other=other.nii.gz", "bright=bright.nii.gz", *QUICK]
    assert "nothing left to do" in segxai(*named, "--out", "r.h5").err
    assert result.read_bytes() == before


def test_the_embedded_case_runs_without_an_image(folder):
    done = segxai("run", "--plugin", "toy", *QUICK)
    assert done.status == 0, done.err
    assert Path("toy_embedded.h5").is_file()
    assert len(rows_of(done.out)) == 4


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(case):
    done = segxai(*COMMAND, "--dry-run")
    assert done.status == 0
    assert re.fullmatch(
        r"4 of 4 instances; 4,100 rows .*: about .*, .* of memory, .* on disk "
        r"\(twice that while it is written.*\)\n",
        done.out,
    )
    assert not Path("r.h5").exists()


def test_a_mask_is_explained_by_its_labels_and_split_on_demand(case):
    labels = np.zeros(picture().shape[1:], np.int16)
    labels[3:6, 3:6, 3:6], labels[12:15, 4:7, 5:8], labels[4, 12, 9] = 7, 7, 300
    write_nifti("mine.nii.gz", labels)
    done = segxai(*COMMAND, *QUICK, "--instances", "mine.nii.gz")
    assert [(row[0], row[3]) for row in rows_of(done.out)] == [("7", "54.0"), ("300", "1.0")]
    done = segxai(*COMMAND, *QUICK, "--instances", "mine.nii.gz", "--split", "--overwrite")
    assert [row[3] for row in rows_of(done.out)] == ["27.0", "27.0", "1.0"]


def test_methods_and_aggregators_of_strangers_run(case):
    assert segxai(*COMMAND, "--method", "toy_image").status == 0
    assert segxai(*COMMAND, "--method", "gradient", "--append").status == 0
    done = segxai(*COMMAND, "--method", "gradient", "--aggregator", "toy_sum", "--append")
    assert done.status == 0, done.err
    found = snapshot("r.h5")
    one = found["attributions/gradient-toy_sum/1/map"]
    assert np.abs(one).max() > np.abs(found["attributions/gradient-signed_max/1/map"]).max()
    image = found["attributions/toy_image/1/map"]
    assert image.shape == found["input/image"].shape


def test_warnings_are_lines_on_stderr(case):
    dark = nib.load("other.nii.gz").get_fdata() - 2
    write_nifti("other.nii.gz", dark.astype(np.float32))
    done = process(*COMMAND, "--method", "gradcam++", "--layer", "logits")
    assert done.status == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "warning: values below -1" in lines  # of Python's warnings module
    assert "warning: the image is dark" in lines  # of the case
    assert len(set(lines)) == len(lines)
    (doubt,) = [line for line in lines if line.startswith("warning: Grad-CAM++: ")]
    assert "UserWarning" not in done.err
    with public.open_result("r.h5") as tree:
        (run,) = tree["attributions"].children.values()
        assert json.loads(run.attrs["provenance"])["warnings"] == ["the image is dark"]
        found = public.maps(tree)
        stored = {text for label in found for text in found.facts(label).get("warnings", ())}
    assert stored == {doubt.removeprefix("warning: ")}


def test_methods_are_listed_with_what_comes_out():
    done = segxai("methods")
    assert (done.status, done.err) == (0, "")
    for name in ("gradient", "smoothgrad", "gradcam++", "class_smoothgrad", "class_gradcam++"):
        assert sum(line.split()[:1] == [name] for line in done.out.splitlines()) == 1
    assert "aggregators: mean, signed_max, toy_sum" in done.out


def test_the_module_is_the_command():
    done = process("--version")
    assert (done.status, done.out) == (0, f"segxai {public.__version__}\n")
