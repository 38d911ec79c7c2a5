"""Every method at its doors: the shell, Python, and each embedded architecture."""

import captum.attr
import numpy as np
import pytest
import torch

import segxai
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from tests import literal
from tests.captum_plugin.subjects import Subject, flat
from tests.commandline import segxai as command
from tests.markdown import ROOT
from tests.networks import block

# The options of each that make a run short, and the unit of its map in a file.
METHODS = {
    "integrated_gradients": (["--set", "steps=4"], "score"),
    "input_x_gradient": ([], "score"),
    "gradient_shap": (["--samples", "2"], "score"),
    "guided_backprop": ([], "score per input unit"),
    "occlusion": (["--set", "patch=9"], "score"),
    "feature_ablation": (["--set", "segments=4", "--set", "compactness=10"], "score"),
    "kernel_shap": (
        ["--set", "segments=3", "--set", "compactness=10", "--set", "coalitions=20"],
        "score",
    ),
    "rise": (["--set", "masks=3"], "score"),
    "gradcam": (["--layer", "active"], "arbitrary"),
    "hirescam": (["--layer", "active"], "arbitrary"),
    "layercam": (["--layer", "active"], "arbitrary"),
    "lrp": ([], "score"),
}

pytestmark = pytest.mark.filterwarnings("ignore:integrated gradients sum to")


def run(*words):
    done = command(*words)
    assert done.status == 0, done.err
    return done


@pytest.mark.parametrize(
    ("name", "plugin"),
    [(name, "toy_flat") for name in METHODS]
    + [(name, "toy") for name in ("integrated_gradients", "occlusion", "layercam", "lrp")],
)
def test_it_runs_at_the_shell_and_goes_on(toys, folder, name, plugin):
    words, unit = METHODS[name]
    words = ["run", "--plugin", plugin, "--method", name, *words, "--out", "r.h5"]
    run(*words, "--instances", "1")
    assert "nothing left to do" in run(*words, "--instances", "1").err
    with open_result(folder / "r.h5") as tree:
        found = maps(tree, name)
        assert list(found) == [1]
        assert found[1]["map"].values.any()
        assert found[1]["map"].attrs["units"] == unit
        assert found.facts(1)["above_0"]


def test_regions_of_a_file_and_the_healthy_mean_are_repeated(toys, case, folder):
    """The file is kept by name and content, and what is healthy depends on all instances."""
    words = ["run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--out", "r.h5"]
    words += ["--method", "feature_ablation", "--set", f"regions={folder / 'mask.nii.gz'}"]
    run(*words, "--set", "baseline=healthy", "--instances", "1")
    with open_result(folder / "r.h5") as tree:
        stored = str(tree["attributions/feature_ablation"].attrs)
        facts = maps(tree, "feature_ablation").facts(1)
    assert '"regions": {"name": "mask.nii.gz", "sha256": "' in stored
    assert str(folder) not in stored
    assert facts["regions"] == 4  # inside and outside of the mask, in each channel
    assert facts["baseline_values"][0] < 0.11  # the noise around the balls, of up to 0.2
    assert "0.0e+00" in run("rerun", "r.h5").out


@pytest.mark.parametrize("name", METHODS)
def test_explain_takes_it_by_name(name):
    subject = flat()
    words, _ = METHODS[name]
    own = dict(word.split("=") for word in words if "=" in word)
    own = {key: value if key == "patch" else int(value) for key, value in own.items()}
    layer = "2" if "--layer" in words else None
    found = segxai.explain(
        subject.predictor.network,
        subject.image[0],
        subject.instance.mask((20, 14)),
        method=name,
        samples=2,
        noise=0.0,
        method_options=own,
        window=(8, 8),
        layer=layer,
    )
    wanted, _ = subject.explain(name, layer=layer, **own)
    assert literal.worst(found.values.reshape(wanted.shape), wanted) < 1e-5


def test_they_are_listed_with_their_options_and_documented():
    listed = run("methods").out
    page = (ROOT / "docs" / "reference" / "methods.md").read_text()
    for name in METHODS:
        assert sum(line.split()[:1] == [name] for line in listed.splitlines()) == 1
        assert f"`{name}`" in page
        own = run("methods", name).out
        assert own.startswith(f"{name}: ")
        if segxai.load_method(name).options:
            assert "give them by --set NAME=VALUE" in own


@pytest.mark.parametrize("name", ["ms_lesion", "nnunet", "swin_unetr", "natural_image"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_captums_on_each_embedded_architecture(name):
    adapter = segxai.load_adapter(name)
    case = adapter.embedded_case()
    middle = tuple(slice(n // 2 - 32, n // 2 + 32) for n in case.image.shape[1:])
    pixels = np.ascontiguousarray(case.image[(slice(None), *middle)])
    shape = pixels.shape[1:]
    predictor = segxai.Predictor(adapter.load_network().eval(), segxai.whole_image(shape))
    instance = block(shape, (30,) * len(shape), (4,) * len(shape))
    image = torch.from_numpy(pixels)[None]
    subject = Subject(predictor, image, instance, segxai.Case.of_array(pixels))
    found, _ = subject.explain("input_x_gradient")
    theirs = captum.attr.InputXGradient(subject.score())
    wanted = theirs.attribute(image.clone().requires_grad_())[0].detach()
    assert literal.worst(found, wanted) < 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_it_says_whether_its_values_depend_on_the_seed(name):
    """`segxai compare` believes it."""
    own = dict(word.split("=") for word in METHODS[name][0] if "=" in word)
    subject, method = flat(), segxai.load_method(name)
    layer = "2" if method.needs_layer else None
    maps = [subject.explain(name, seed=seed, layer=layer, **own)[0] for seed in (0, 1)]
    assert torch.equal(*maps) != (method.random or method.smooths)
