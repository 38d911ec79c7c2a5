"""The command line: help at once, the result on stdout, progress on stderr, numbers to read."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import segxai as public
from segxai import text
from segxai.cli import app, terminal
from segxai.cli.parsing import are_labels, files_by_channel, labels_of, source_of
from segxai.errors import SegxaiError
from segxai.run.options import Mask
from tests.commandline import (
    assert_same,
    make_case,
    process,
    segxai,
    snapshot,
    use_toys,
    write_nifti,
)
from tests.toy.segxai_toy import picture

COMMAND = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
QUICK = ("--method", "gradient", "--aggregator", "mean")
HEAVY = {"torch", "captum", "monai", "xarray", "h5py", "numpy", "scipy", "nibabel", "matplotlib"}


@pytest.fixture(autouse=True)
def toys(monkeypatch, request):
    use_toys(monkeypatch, drawn="drawn" in request.fixturenames)


@pytest.fixture
def drawn():
    """For tests that look at the picture of a run."""


@pytest.fixture
def case(folder):
    make_case(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with a case and its result."""
    folder = tmp_path_factory.mktemp("finished")
    make_case(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        use_toys(patch)
        done = segxai(*COMMAND, *QUICK)
    assert done.status == 0, done.err
    return folder


@pytest.fixture
def result(finished, folder):
    """A copy of that result in a copy of that folder, which is the current one."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    return Path("r.h5")


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


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["--version"], ["plugins", "--json"], []]
)
def test_help_and_listing_import_nothing_heavy(words):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not HEAVY & set(done.stderr.split())


def test_the_version_is_printed():
    assert segxai("--version").out == f"segxai {public.__version__}\n"


def test_without_words_there_is_help():
    assert segxai().out == segxai("--help").out
    assert segxai().status == 0


def commands():
    return [one.callback.__name__.replace("_", "-") for one in app.registered_commands]


def test_every_command_is_listed_with_its_first_line():
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", segxai("--help").out).split())
    reading = ["show", "export", "rerun"]
    assert commands() == ["run", *reading, "plugins", "methods", "check", "new-plugin"]
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


# -------------------------------------------------------------------------------------- the words


def test_files_by_order_and_by_name():
    channels = ("flair", "mprage")
    expected = {"flair": Path("a"), "mprage": Path("b")}
    assert files_by_channel(["a", "b"], channels) == expected
    assert files_by_channel(["flair=a", "mprage=b"], channels) == expected
    turned = files_by_channel(["mprage=b", "flair=a"], channels)
    assert turned == expected
    assert list(turned) == ["flair", "mprage"]


def test_a_file_may_have_an_equals_sign_in_its_name(folder):
    Path("te=90.nii").touch()
    assert files_by_channel(["te=90.nii"], ("flair",)) == {"flair": Path("te=90.nii")}
    assert files_by_channel(["flair=te=90.nii"], ("flair",)) == {"flair": Path("te=90.nii")}
    with pytest.raises(SegxaiError, match="unknown channel 'te'"):
        files_by_channel(["te=80.nii"], ("flair",))


def test_a_selection_of_instances(folder):
    Path("1").touch()
    assert are_labels("all")
    assert labels_of("all") is None
    assert are_labels("5, 1,5")
    assert labels_of("5, 1,5") == (1, 5)
    assert labels_of("1") == (1,)
    assert not are_labels("./1")
    assert source_of("./1", split=True) == Mask(Path("1"), split=True)
    with pytest.raises(SegxaiError, match="split=True cuts a mask"):
        source_of(None, split=True)


# -------------------------------------------------------------------------------------------- run


def rows_of(text):
    """The rows of the printed table: their words."""
    lines = [line.split() for line in text.splitlines()]
    start = next(i for i, words in enumerate(lines) if words and set(words[0]) == {"─"})
    return [words for words in lines[start + 1 :] if words and words[0].isdecimal()]


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
            stored[f"summaries/gradient-mean/{name}"][label - 1, channel]
            for channel in (0, 1)
            for name in ("peak", "trough")
        ]
        assert [float(value) for value in values] == pytest.approx(expected, rel=5e-3)
        assert all(len(value.lstrip("-0.").replace(".", "")) <= 3 for value in values)


def test_a_lower_precision_is_marked_with_its_error(case):
    done = segxai(*COMMAND, "--method", "gradient", "--precision", "bfloat16", "--instances", "1,2")
    assert done.status == 0, done.err
    rows = {row[0]: row for row in rows_of(done.out)}
    assert re.search(r"bfloat16: rows within \d\.\d%$", " ".join(rows["1"]))
    tree = public.open_result("r.h5")
    facts = [json.loads(tree[f"attributions/gradient-signed_max/{n}"].attrs["facts"]) for n in "12"]
    assert all(0 < one["precision_error"] < 0.1 for one in facts)
    again = segxai(*COMMAND, "--method", "gradient", "--instances", "1,2")
    assert again.status == 2, "the maps of another precision are other maps"
    assert "precision" in again.error


def test_missed_instances_and_estimates_are_marked(case):
    reference = picture()[0] > 0.5
    reference[:10, 9:] = False
    reference[8:11, 14:17, 2:4] = True
    write_nifti("reference.nii.gz", reference.astype(np.uint8))
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
    assert "--rows changes nothing: the map takes one backward pass and is exact" in done.err
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
        r"4 of 4 instances; 4,100 rows .*: about .*, .* of memory, .* on disk\n", done.out
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
    assert any(line.startswith("warning: Grad-CAM++: ") for line in lines)
    assert "UserWarning" not in done.err


# ------------------------------------------------------------------------------------------- show


def test_show_prints_provenance_and_tables_for_a_person(result):
    segxai(*COMMAND, "--method", "gradcam++", "--append")
    done = segxai("show", "r.h5")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "plugin: name toy, package segxai-toy, version 1.2" in lines
    assert any(
        re.match(r"    role other, name other.nii.gz, sha256 [0-9a-f]{64}$", x) for x in lines
    )
    assert [line for line in lines if line.startswith("run ")] == [
        "run gradient-mean",
        "run gradcam++",
    ]
    assert "  layer: active" in lines
    assert "{" not in done.out
    assert len(rows_of(done.out)) == 8


def test_show_prints_one_run_or_json(result):
    segxai(*COMMAND, "--method", "gradcam++", "--append")
    assert "gradcam++" not in segxai("show", "r.h5", "--run", "gradient-mean").out
    shown = json.loads(segxai("show", "r.h5", "--json").out)
    assert shown["provenance"]["plugin"]["name"] == "toy"
    assert list(shown["runs"]) == ["gradient-mean", "gradcam++"]
    one = shown["runs"]["gradient-mean"]
    assert one["provenance"]["method"] == "gradient"
    assert [row["label"] for row in one["instances"]] == [1, 2, 3, 4]
    assert one["instances"][0]["volume_mm3"] == snapshot("r.h5")["instances/volume_mm3"][0]


def test_show_says_what_is_not_finished(result):
    assert "not finished" not in segxai("show", "r.h5").out
    with h5py.File(result, "a") as file:
        del file["attributions/gradient-mean/2"], file["attributions/gradient-mean/4"]
        del file["summaries"]
    done = segxai("show", "r.h5")
    assert "not finished: 2, 4; repeat the run's command to continue" in done.out.splitlines()
    assert "no instance is finished yet" in done.out.splitlines()
    shown = json.loads(segxai("show", "r.h5", "--json").out)
    assert shown["runs"]["gradient-mean"]["unfinished"] == [2, 4]


def test_a_class_level_run_is_finished_with_its_one_map(case):
    assert segxai(*COMMAND, "--method", "class_gradcam++").status == 0
    assert "not finished" not in segxai("show", "r.h5").out


def test_show_draws_every_instance(result):
    done = segxai("show", "r.h5", "--png", "deep/er")
    names = [f"gradient-mean-{label}.png" for label in range(1, 5)]
    assert [line for line in done.out.splitlines() if line.startswith("picture")] == [
        f"picture: deep/er/{name}" for name in names
    ]
    for name in names:
        with Image.open(Path("deep/er", name)) as picture:
            assert min(picture.size) > 300
    assert json.loads(segxai("show", "r.h5", "--png", "deep/er", "--json").out)


def test_a_picture_of_a_flat_case(drawn, folder):
    command = ["run", "--plugin", "toy_flat", *QUICK, "--out", "r.h5"]
    done = segxai(*command)
    assert done.status == 0, done.err
    assert segxai("show", "r.h5", "--png", "maps").status == 0
    exported = segxai("export", "r.h5", "maps").out.splitlines()
    assert exported[0].endswith("labels.tif")


# ------------------------------------------------------------------------------------------ rerun

RERUNS = {
    "gradient": QUICK,
    "smoothgrad": ("--aggregator", "mean", "--samples", "2", "--seed", "3", "--noise-unit", "p99"),
    "signed max": ("--samples", "1", "--noise", "0.02", "--noise-unit", "absolute"),
    "estimate": ("--samples", "1", "--rows", "5", "--instances", "3,4"),
    "cut": (*QUICK, "--crop", "2", "--score", "margin", "--threshold", "0.4", "--min-volume", "9"),
    "mask": (*QUICK, "--instances", "mask.nii.gz", "--split"),
    "heat map": ("--method", "gradcam++", "--layer", "features", "--class", "rest"),
    "class": ("--method", "class_gradcam++"),
    "reference": (*QUICK, "--reference", "mask.nii.gz"),
    "plugin's": ("--method", "toy_image"),
}


def differences(text):
    """The words of each instance of a printed comparison."""
    return {row[0]: row[1:] for row in rows_of(text)}


@pytest.mark.filterwarnings("default:Grad-CAM:UserWarning")
@pytest.mark.parametrize("options", RERUNS.values(), ids=RERUNS)
def test_a_rerun_agrees_with_every_kind_of_run(case, options):
    assert segxai(*COMMAND, *options).status == 0
    before = Path("r.h5").read_bytes()
    done = segxai("rerun", "r.h5")
    assert done.status == 0, done.err
    found = differences(done.out)
    assert found
    assert all(words == ["0.0e+00", "yes"] for words in found.values())
    assert "warning: " not in done.err.replace("warning: Grad-CAM", "")
    assert Path("r.h5").read_bytes() == before


def test_a_rerun_finds_what_was_tampered_with(result):
    with h5py.File(result, "a") as file:
        values = file["attributions/gradient-mean/2/map"]
        values[0, 0, 0, 0] += 1e-3 * np.abs(values[()]).max()
    done = segxai("rerun", "r.h5")
    assert done.status == 1
    found = differences(done.out)
    assert found["2"] == ["1.0e-03", "NO"]
    assert [found[label][-1] for label in "134"] == ["yes"] * 3


def test_a_rerun_misses_an_instance_that_is_not_found_again(result):
    with h5py.File(result, "a") as file:
        runs = file["attributions/gradient-mean"]
        runs.move("4", "9")
        runs["9"].attrs["label"] = 9
        table = file["summaries/gradient-mean"]
        table["label"][-1] = 9
    done = segxai("rerun", "r.h5")
    assert done.status == 1
    assert differences(done.out)["9"] == ["not", "found", "again", "NO"]


def test_a_rerun_of_an_unfinished_run_compares_what_is_there(result):
    with h5py.File(result, "a") as file:
        del file["attributions/gradient-mean/1"]
    done = segxai("rerun", "r.h5")
    assert done.status == 0
    assert set(differences(done.out)) == {"2", "3", "4"}


def test_a_rerun_finds_the_files_elsewhere(result):
    Path("scans/a").mkdir(parents=True)
    Path("bright.nii.gz").rename("scans/a/bright.nii.gz")
    Path("other.nii.gz").rename("scans/other.nii.gz")
    assert segxai("rerun", "r.h5", "--images", "scans").status == 0


def test_a_rerun_of_the_embedded_case_needs_no_file(folder):
    assert segxai("run", "--plugin", "toy", *QUICK, "--out", "r.h5").status == 0
    assert segxai("rerun", "r.h5").status == 0


def test_a_rerun_says_what_is_not_as_it_was(result):
    with h5py.File(result, "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored["versions"]["torch"] = "1.0"
        file.attrs["provenance"] = json.dumps(stored)
    done = segxai("rerun", "r.h5")
    assert done.status == 0
    assert "warning: versions torch is '1.0' in the file, " in done.err


def test_a_rerun_with_other_weights_is_refused(result):
    with h5py.File(result, "a") as file:
        stored = json.loads(file.attrs["provenance"])
        stored["weights"] = {"name": "mine.pt", "sha256": "abc"}
        file.attrs["provenance"] = json.dumps(stored)
    error = segxai("rerun", "r.h5").error
    assert "the run used the weights mine.pt (sha256 abc)" in error
    assert "give the file with --checkpoint" in error


# ------------------------------------------------------------------------------------- other lists


def test_methods_are_listed_with_what_comes_out():
    done = segxai("methods")
    assert (done.status, done.err) == (0, "")
    for name in ("gradient", "smoothgrad", "gradcam++", "class_smoothgrad", "class_gradcam++"):
        assert sum(line.split()[:1] == [name] for line in done.out.splitlines()) == 1
    assert "aggregators: mean, signed_max, toy_sum" in done.out


# ---------------------------------------------------------------------------------------- terminal


def test_progress_in_a_file_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(terminal, "monotonic", lambda: next(clock))
    progress = terminal.TerminalProgress()
    progress.begin("explain", 10)
    for _ in range(10):
        progress.advance(1)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert 2 < len(lines) < 10
    assert all(re.match(r"explain: \d+%, \d+ (s|min) left$", line) for line in lines)


def test_progress_of_a_short_job_is_silent(capsys):
    progress = terminal.TerminalProgress()
    progress.begin("explain", 2)
    progress.advance(1)
    progress.begin("explain", 0)
    progress.advance(1)
    progress.close()
    assert capsys.readouterr().err == ""


def test_progress_in_a_terminal_is_a_bar_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    progress = terminal.TerminalProgress()
    progress.begin("explain", 4)
    progress.advance(1)
    progress.say("warning: mind the gap")
    progress.close()
    text = capsys.readouterr().err
    assert "25%," in text
    assert " left" in text
    assert "mind the gap" in text


@pytest.mark.parametrize(
    ("written", "number", "text"),
    [
        (text.volume, 93.04, "93.0"),
        (text.volume, 38608.2, "38608"),
        (text.probability, 0.873, "0.87"),
        (text.significant, 0.0, "0"),
        (text.significant, 0.12, "0.120"),
        (text.significant, -12.345, "-12.3"),
        (text.significant, 123.4, "123"),
        (text.significant, 999.7, "1000"),
        (text.significant, 12345.6, "12346"),
        (text.significant, 1.234e-7, "1.23e-07"),
        (text.significant, float("nan"), "nan"),
        (text.duration, 0.2, "1 s"),
        (text.duration, 600, "10 min"),
        (text.duration, 9000, "2.5 h"),
        (text.size, 1.5e9, "1.5 GB"),
        (text.size, 12, "0.0 kB"),
    ],
)
def test_numbers_in_words(written, number, text):
    assert written(number) == text


def test_facts_in_lines():
    facts = {
        "a_b": 1,
        "none": None,
        "list": [0.1234567, "x"],
        "empty": [],
        "flat": {"one_two": 1, "three": None},
        "deep": {"x": [1, 2], "y": [{"n": 1, "m": 2}, {"n": 3, "m": 4}]},
    }
    assert list(text.fact_lines(facts)) == [
        "a b: 1",
        "none: none",
        "list: 0.123457, x",
        "empty: none",
        "flat: one two 1, three none",
        "deep:",
        "  x: 1, 2",
        "  y:",
        "    n 1, m 2",
        "    n 3, m 4",
    ]


def test_nothing_of_a_wide_table_is_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal.print_table([{"a": "x" * 300, "b": 1.0}], {"a": "first", "b": "second"})
    assert "x" * 300 in capsys.readouterr().out


def test_no_number_is_cut_off_in_a_narrow_window(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    row = {"words": "some words to wrap"} | {f"n{i}": 1.25e-7 * i for i in range(1, 9)}
    terminal.print_table([row], {name: name for name in row})
    printed = capsys.readouterr().out
    assert all(text.significant(row[f"n{i}"]) in printed for i in range(1, 9))
    assert "some words to wrap" not in printed
    assert "wrap" in printed


def test_the_module_is_the_command():
    done = process("--version")
    assert (done.status, done.out) == (0, f"segxai {public.__version__}\n")


def test_a_closed_pipe_is_no_bug(result):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "segxai", "show", "r.h5"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr
