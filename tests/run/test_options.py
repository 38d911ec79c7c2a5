"""The record of options: stated once, the same at every door, and resolved where it is stored."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

import segxai as public
from segxai import SegxaiError, explain
from segxai.cli import app
from segxai.cli.flags import as_flags, flag_of
from segxai.errors import option
from segxai.methods import noise
from segxai.methods.options import MethodOptions, NoiseOptions
from segxai.run.options import Balls, Mask, Options, Result, leaves_of
from segxai.store.hdf5 import open_result, runs
from segxai.store.reader import maps, provenance_of_run
from tests.commandline import install, package, remove_maps, segxai, snapshot
from tests.networks import net2d

RUN = ("run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
# Options of the shell that are no leaf: files, the model, and what is done with the result.
OTHERS = {
    "plugin", "images", "reference", "checkpoint", "full", "model", "bundle", "trust", "channels",
    "classes", "window", "overlap", "activation", "normalise", "spacing", "split", "out",
    "overwrite", "append", "dry_run", "help_all", "max_voxels", "weights_key", "output",
    "align_corners", "regions", "case_name", "folds",
}  # fmt: skip


@pytest.fixture
def case(case, toys):
    return case


def ok(*words):
    done = segxai(*words)
    assert done.status == 0, done.err
    return done


# ------------------------------------------------------------------------------------ one record


def command():
    return typer.main.get_command(app).commands["run"]


def test_leaves_and_flags_are_in_bijection():
    leaves = [name for name, _ in leaves_of(Options())]
    assert len(set(leaves)) == len(leaves)
    flags = [one.opts[0] for one in command().params if one.name not in OTHERS]
    assert sorted(flag_of(name) for name in leaves) == sorted(flags)


def test_defaults_that_the_help_shows_are_those_of_the_record():
    leaves = dict(leaves_of(Options()))
    shown = {one.name: one.show_default for one in command().params if one.name in leaves}
    told = {name: text for name, text in shown.items() if isinstance(text, str)}
    assert told.pop("instances") == "all predicted"
    assert told.pop("labels") == "all"
    assert told.pop("tolerance") == str(noise.TOLERANCE)
    assert told.pop("row_tolerance") == "0.003"
    flat = {n: v[0] if isinstance(v, tuple) and v else v for n, v in leaves.items()}
    assert told == {name: str(flat[name]) for name in told}
    assert set(told) >= {"method", "samples", "noise", "noise_unit", "score", "seed", "engine"}


def test_explain_takes_leaves_by_their_names():
    own = {"model", "image", "mask", "window", "overlap", "output", "align_corners"}
    taken = set(inspect.signature(explain).parameters) - own
    assert taken <= {name for name, _ in leaves_of(Options())}


def test_leaves_are_given_flat():
    options = Options.of(samples=4, aggregator="mean", engine="dense", labels=(2, 3), seed=None)
    assert options.method.noise == NoiseOptions(samples=4)
    assert options.method.aggregator == ("mean",)
    assert (options.compute.engine, options.target.labels) == ("dense", (2, 3))
    assert options.method.seed == MethodOptions().seed
    with pytest.raises(SegxaiError, match="'sample'.* 'samples'"):
        Options.of(sample=4)


# ------------------------------------------------------------------------- the words of each door

WRONG = {
    "pairs": (
        {"samples": 5, "antithetic": True},
        "samples=5, antithetic=True: copies come in pairs",
        "--samples 5, --antithetic: copies come in pairs",
    ),
    "tolerance": (
        {"tolerance": 0.1},
        "tolerance=0.1 belongs to samples=auto",
        "--tolerance 0.1 belongs to --samples auto",
    ),
    "row tolerance": (
        {"row_tolerance": 0.1},
        "row_tolerance=0.1 belongs to engine=lowrank",
        "--row-tolerance 0.1 belongs to --engine lowrank",
    ),
    "rows": ({"rows": 0}, "rows=0: give a number of 1", "--rows 0: give a number of 1"),
    "seed": ({"seed": -1}, "seed=-1: give a number of 0", "--seed -1: give a number of 0"),
    "crop": ({"crop_mm": -1.0}, "crop_mm=-1.0: give", "--crop -1.0: give"),
    "nan": ({"noise": float("nan")}, "noise=nan: give", "--noise nan: give"),
    "batch": ({"batch": 0}, "batch=0: give", "--batch 0: give"),
    "connectivity": ({"connectivity": 4}, "connectivity=4: give 1", "--connectivity 4: give 1"),
    "twice": (
        {"aggregator": ("mean", "mean")},
        "aggregator: 'mean' is given twice",
        "--aggregator: 'mean' is given twice",
    ),
}


@pytest.mark.parametrize(("given", "python", "shell"), WRONG.values(), ids=WRONG)
def test_an_error_speaks_the_words_of_its_door(case, given, python, shell):
    with pytest.raises(SegxaiError, match="give|belongs|twice") as error:
        Options.of(**given)
    assert str(error.value).startswith(python)
    words = []
    for name, value in given.items():
        listed = ",".join(value) if isinstance(value, tuple) else str(value)
        words += [flag_of(name)] if value is True else [flag_of(name), listed]
    assert segxai(*RUN, *words).error.startswith(shell)


def test_explain_speaks_python():
    image, mask = np.zeros((3, 8, 8), np.float32), np.ones((8, 8), bool)
    with pytest.raises(SegxaiError, match="^samples=5, antithetic=True: "):
        public.explain(net2d(), image, mask, samples=5, antithetic=True)


def test_a_switch_is_its_flag_alone():
    assert as_flags(f"no {option('split', True)}, no {option('out')}") == "no --split, no --out"


# ------------------------------------------------------------------------------------- resolved


def test_what_was_left_to_a_default_resumes_when_it_is_spelled_out(case):
    ok(*RUN)
    spelled = ["--method", "smoothgrad", "--aggregator", "signed_max", "--score", "logit"]
    spelled += ["--samples", "50", "--noise", "0.05", "--noise-unit", "range", "--seed", "0"]
    spelled += ["--precision", "float32", "--engine", "auto", "--instances", "all"]
    spelled += ["--class", "ball", "--threshold", "0.5", "--min-volume", "3", "--connectivity", "2"]
    assert "nothing left to do" in ok(*RUN, *spelled).err
    ok(*RUN, "--method", "gradcam++", "--append")
    assert "nothing left to do" in ok(*RUN, "--method", "gradcam++", "--layer", "active").err


@pytest.mark.filterwarnings("default:the layer is")
def test_a_layer_that_was_chosen_for_the_user_is_recorded(case):
    words = ["run", "--model", "tests.toy.segxai_toy:Toy", "--channels", "a,b"]
    words += ["--method", "gradcam++", "--out", "own.h5", "bright.nii.gz", "other.nii.gz"]
    said = ok(*words).err
    assert "warning: the layer is 'active', the last activation before the logits" in said
    assert "name another with --layer" in said
    (stored,) = runs(Path("own.h5")).values()
    assert stored["layer"] == "active"
    assert "nothing left to do" in ok(*words, "--layer", "active").err


def test_a_default_that_changes_cannot_change_a_rerun(case, monkeypatch):
    """Every option that values depend on comes from the file, none from a default."""
    ok(*RUN, "--samples", "2")
    given, of = {}, Options.of.__func__

    def watched(cls, **leaves):
        given.update(leaves)
        return of(cls, **leaves)

    monkeypatch.setattr(Options, "of", classmethod(watched))
    assert "0.0e+00" in ok("rerun", "r.h5").out
    assert {name for name, _ in leaves_of(Options())} - given.keys() == {"class_index"}


def test_each_option_that_changes_values_is_another_run(case):
    ok(*RUN, "--samples", "2", "--rows", "5")
    others = [["--antithetic"], ["--noise", "0.1"], ["--seed", "1"], ["--precision", "tf32"]]
    others += [["--engine", "lowrank"], ["--engine", "lowrank", "--row-tolerance", "0.1"]]
    for more in others:
        assert "holds another run" in segxai(*RUN, "--samples", "2", "--rows", "5", *more).error
    layers = [*RUN[:-1], "cam.h5", "--method", "gradcam++", "--layer"]
    ok(*layers, "active")
    error = segxai(*layers, "features").error
    assert "layer is 'active' in the file, 'features' now" in error


def test_another_layout_of_a_layer_is_another_run(case):
    """No layout is the one that the trial finds; another cannot be resumed."""
    words = [*RUN, "--method", "gradcam++"]
    ok(*words)
    (stored,) = runs(Path("r.h5")).values()
    assert stored["layer_layout"] == "channels_first"
    assert "nothing left to do" in ok(*words, "--layer-layout", "channels_first").err
    error = segxai(*words, "--layer-layout", "channels_last").error
    assert "layer_layout is 'channels_first' in the file, 'channels_last' now" in error
    assert "0.0e+00" in ok("rerun", "r.h5").out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["--layer-layout", "channels_first"],
            "method 'smoothgrad' uses no layer: leave out --layer-l",
        ),
        (
            ["--method", "gradcam++", "--layer-layout", "last"],
            "unknown layer layout 'last'; known: ",
        ),
        (
            ["--method", "gradcam++", "--layer-layout", "tokens:4,"],
            "--layer-layout tokens:4,: give",
        ),
        (["--method", "gradcam++", "--tta"], "looks at one pass through a layer: leave out --tta"),
    ],
)
def test_a_layout_that_makes_no_sense_is_one_line(case, words, error):
    assert error in segxai(*RUN, *words).error


def test_files_are_known_by_name_and_content(case):
    ok(*RUN, "--samples", "2", "--instances", str(Path("mask.nii.gz").absolute()), "--split")
    with open_result(Path("r.h5")) as tree:
        stored = tree.attrs["provenance"]
    assert '"origin": "mask", "name": "mask.nii.gz", "sha256": "' in stored
    assert str(case) not in stored


# ------------------------------------------------------------------------- instances of a result


def test_the_domains_of_another_result_are_explained(case):
    ok(*RUN, "--samples", "2")
    ok(*RUN[:-1], "other.h5", "--instances", "r.h5", "--labels", "2,4", "--method", "gradient")
    first, second = snapshot("r.h5"), snapshot("other.h5")
    for label in (2, 4):
        own = f"attributions/smoothgrad-signed_max/{label}/domain"
        again = f"attributions/gradient-signed_max/{label}/domain"
        assert first[own].sum() == second[again].sum() > 0
    assert second["instances/label"].tolist() == [1, 2, 3, 4]
    assert "0.0e+00" in ok("rerun", "other.h5").out
    Path("r.h5").unlink()
    assert "no file r.h5" in segxai("rerun", "other.h5").error


def test_balls_that_overlap_are_explained_again_as_they_were(case):
    balls = "sphere:13,5,6,2:13,6,6,2"
    ok(*RUN, "--method", "gradient", "--instances", balls)
    ok(*RUN[:-1], "other.h5", "--method", "gradient", "--instances", "r.h5")
    first, second = snapshot("r.h5"), snapshot("other.h5")
    name = "attributions/gradient-signed_max/{}/{}"
    for label in (1, 2):
        for what in ("map", "domain"):
            one = name.format(label, what)
            np.testing.assert_array_equal(first[one], second[one])


def test_a_result_on_another_grid_is_refused(case):
    ok(*RUN, "--samples", "2")
    words = ["run", "--plugin", "toy", "--out", "embedded.h5", "--instances", "r.h5"]
    adapter = public.load_adapter("toy")
    small = adapter.embedded_case()
    moved = replace(small, grid=public.Grid(small.grid.shape, np.diag([2.0, 2, 2, 1])))
    options = Options.of(instances=Result(Path("r.h5")), method="gradient")
    task = public.prepare(adapter, moved, options)
    with pytest.raises(SegxaiError, match=r"^instances=r\.h5: "):
        public.explain_case(task, Path("x.h5"))
    ok(*words, "--method", "gradient")


def cropped(case, start, shape):
    inside = (..., *(slice(a, a + n) for a, n in zip(start, shape, strict=True)))
    affine = case.grid.affine.copy()
    affine[:-1, -1] = case.grid.to_mm(np.array(start, dtype=float))
    return replace(
        case,
        image=np.ascontiguousarray(case.image[inside]),
        foreground=case.foreground[inside],
        grid=public.Grid(shape, affine),
    )


def explain_domains_of(path, case, out):
    options = Options.of(instances=Result(path), method="gradient", aggregator="mean")
    public.explain_case(public.prepare(public.load_adapter("toy"), case, options), out)


def test_the_domains_of_another_result_are_explained_on_a_crop_of_the_image(case):
    ok("run", "--plugin", "toy", "--method", "gradient", "--out", "r.h5")
    whole = public.load_adapter("toy").embedded_case()
    explain_domains_of(Path("r.h5"), cropped(whole, (1, 2, 0), (19, 15, 16)), Path("crop.h5"))
    first, second = snapshot("r.h5"), snapshot("crop.h5")
    for label in (1, 2, 3, 4):
        there = np.argwhere(first["segmentation/labels"] == label)
        here = np.argwhere(second["segmentation/labels"] == label)
        np.testing.assert_array_equal(there, np.add(here, (1, 2, 0)))


def test_domains_that_reach_out_of_a_crop_are_refused(case):
    ok("run", "--plugin", "toy", "--method", "gradient", "--out", "r.h5")
    small = cropped(public.load_adapter("toy").embedded_case(), (0, 0, 0), (12, 18, 16))
    with pytest.raises(SegxaiError, match=r"instances 2, 4 reach outside of the 12 x 18 x 16 "):
        explain_domains_of(Path("r.h5"), small, Path("crop.h5"))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--instances", "none.nii.gz"], "--instances none.nii.gz: neither labels"),
        (["--labels", "a"], "--labels a: give labels such as 1,2,5"),
        (["--split"], "--split cuts a mask into its components: give one with --instances MASK"),
        (["--instances", "bright.nii.gz", "--labels", "1"], "is not a mask"),
        (["--set", "gain"], "--set gain: give name=value"),
        (["--set", "gain=1"], "method 'smoothgrad' has no options of its own: 'gain'"),
    ],
)
def test_mistakes_are_one_clear_line(case, words, error):
    assert error in segxai(*RUN, *words).error


def test_sources_are_values():
    assert Mask(Path("a"), split=True) != Mask(Path("a"))
    assert Balls(((1.0, 2.0),)) == Balls(((1.0, 2.0),))


# ----------------------------------------------------------------------- options of a method's own

STRANGER = """
from dataclasses import dataclass, field
from typing import Literal

from segxai import Attribution, Method, hookimpl


@dataclass(frozen=True)
class Own:
    gain: float = field(default=2.0, metadata={"help": "what the image is multiplied by"})
    channel: Literal["all", "first"] = "all"
    steps: tuple[int, ...] = (1, 2)
    limit: float | None = None
    flip: bool = False


def attribute(predictor, image, instance, options, context):
    context.tick(1.0)
    own = context.own
    values = own.gain * image[0].cpu().numpy() * sum(own.steps)
    if own.channel == "first":
        values[1:] = 0
    return Attribution(instance.label, -values if own.flip else values, (0,) * (image.ndim - 2))


@hookimpl
def segxai_method(name):
    return Method(name=name, summary="the image, scaled", attribute=attribute, options=Own)
"""


@pytest.fixture
def stranger(case, tmp_path, monkeypatch):
    points = "[segxai.methods]\nstranger = stranger_method\n"
    package(tmp_path / "site", points, stranger_method=STRANGER)
    install(monkeypatch, tmp_path / "site")


def test_a_methods_own_options_are_listed_with_types_and_defaults(stranger):
    listed = ok("methods", "stranger").out
    for words in ("gain", "2.0", "what the image is multiplied by", "all|first", "float or none"):
        assert words in listed
    assert "no options of its own" in ok("methods", "gradient").out


def test_a_methods_own_options_are_typed_recorded_resumed_and_rerun(stranger):
    words = [*RUN, "--method", "stranger", "--set", "gain=3", "--set", "channel=first"]
    ok(*words)
    with open_result(Path("r.h5")) as tree:
        stored = provenance_of_run(tree, "stranger")["method_options"]
        values = maps(tree, "stranger")[1]["map"].values
    whole = {"gain": 3.0, "channel": "first", "steps": [1, 2], "limit": None, "flip": False}
    assert stored == whole
    assert values[0].max() > 9
    assert not values[1].any()
    assert "nothing left to do" in ok(*words, "--set", "flip=false", "--set", "limit=none").err
    error = segxai(*words, "--set", "flip=yes").error
    assert "method_options flip is False in the file, True now" in error
    assert "0.0e+00" in ok("rerun", "r.h5").out


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        ("gian=4", "unknown option of method 'stranger' 'gian'; known: "),
        ("gain=much", "gain=much: method 'stranger' wants float"),
        ("channel=second", "channel=second: method 'stranger' wants all|first"),
        ("steps=1,x", "steps=1,x: method 'stranger' wants int,..."),
        ("limit=low", "limit=low: method 'stranger' wants float or none"),
        ("flip=maybe", "flip=maybe: method 'stranger' wants bool"),
    ],
)
def test_a_wrong_option_of_a_method_is_one_line(stranger, pair, error):
    assert error in segxai(*RUN, "--method", "stranger", "--set", pair).error


def test_explain_takes_a_methods_own_options(stranger):
    image, mask = torch.ones(2, 6, 6), torch.ones(6, 6, dtype=torch.bool)
    model = torch.nn.Conv2d(2, 2, 1)
    found = public.explain(model, image, mask, method="stranger", method_options={"gain": 5})
    assert found.attrs["gain"] == 5.0
    assert float(found.max()) == 15.0


# ---------------------------------------------------------------------------- several runs in one


def test_several_aggregators_and_scores_are_runs_of_their_own(case):
    some = ["--samples", "2", "--instances", "1,2", "--rows", "20"]
    several = ["--aggregator", "mean,signed_max", "--score", "logit,probability", *some]
    ok(*RUN, *several)
    assert set(runs(Path("r.h5"))) == {
        "smoothgrad-mean",
        "smoothgrad-mean-probability",
        "smoothgrad-signed_max",
        "smoothgrad-signed_max-probability",
    }
    assert "nothing left to do" in ok(*RUN, *several).err
    alone = ["--aggregator", "signed_max", "--score", "probability", *some]
    assert "nothing left to do" in ok(*RUN, *alone).err
    ok(*RUN[:-1], "alone.h5", *alone)
    both, one = snapshot("r.h5"), snapshot("alone.h5")
    kept = {name: value for name, value in one.items() if name.startswith("attributions")}
    assert kept
    for name, values in kept.items():
        if values.dtype.kind == "f":
            scale = np.abs(values).max()
            np.testing.assert_allclose(both[name], values, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_what_a_killed_run_of_several_lacks_is_computed(case):
    several = ["--aggregator", "mean,signed_max", "--samples", "2", "--instances", "1,2"]
    ok(*RUN, *several)
    whole = snapshot("r.h5")
    remove_maps("r.h5", "smoothgrad-signed_max", 2)
    ok(*RUN, *several)
    again = snapshot("r.h5")
    name = "attributions/smoothgrad-signed_max/2/map"
    np.testing.assert_array_equal(again[name], whole[name])
