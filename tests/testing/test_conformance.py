"""The conformance kit: an honest adapter passes, and every lie is caught by its own message."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segxai import Adapter, Case, Grid, Predictor, SlidingWindow, WholeImage, whole_image
from segxai.errors import SegxaiError
from segxai.load.resampling import resample, working_grid
from segxai.plugins.registry import load_adapter
from segxai.segment.detections import Detections
from segxai.segment.readout import Readout
from segxai.testing import check_adapter
from tests.commandline import segxai, use_toys
from tests.toy.segxai_toy import TOY, Toy, bare_case, load_case, picture

RECORD = "the record makes sense"
CASE = "the embedded case fits the adapter"
LOADS = "the network loads"
INPUT = "it takes its input"
SAME_WEIGHTS = "the same weights whenever it is loaded"
NAMED_WEIGHTS = "the weights are those of the file that is named"
SHAPE = "one finite logit for each class and voxel"
LOGITS = "logits, not probabilities"
TWICE = "the same twice in evaluation mode"
GRADIENTS = "gradients reach every channel"
LEFT = "the network is left as it came"
LAYER = "the default layer exists"
WINDOWS = "windows add up to the prediction"
PLACES = "places in mm survive loading"
MIRRORS = "images can be mirrored"
INSTANCES = "the embedded case shows instances"
DETECTIONS = "detections are in their places, and frozen"
ROWS = "rows can be computed"
PLAIN = [
    RECORD,
    CASE,
    LOADS,
    INPUT,
    SAME_WEIGHTS,
    NAMED_WEIGHTS,
    SHAPE,
    LOGITS,
    TWICE,
    GRADIENTS,
    LEFT,
    LAYER,
]
PROMISES = [*PLAIN, WINDOWS, PLACES, INSTANCES, ROWS]


def findings(adapter):
    return {finding.what: finding for finding in check_adapter(adapter)}


def broken(adapter):
    """What is wrong, by check."""
    return {
        what: finding.detail for what, finding in findings(adapter).items() if not finding.holds
    }


def with_network(change):
    """The toy with a network whose forward pass is changed."""

    class Changed(Toy):
        def forward(self, image):
            return change(self, super().forward, image)

    return replace(TOY, load_network=Changed)


# --------------------------------------------------------------------------------- honest adapters


def test_an_honest_adapter_keeps_every_promise():
    found = findings(TOY)
    assert list(found) == PROMISES
    assert all(finding.holds for finding in found.values())
    told = {what: finding.detail for what, finding in found.items() if finding.detail}
    assert told.pop(ROWS).startswith("windowed; a row keeps to ")
    assert told == {
        NAMED_WEIGHTS: "skipped, no file is named",
        WINDOWS: "the whole image at once",
        PLACES: "a made-up volume of 20 x 18 x 16 comes back (correlation 1.000)",
        INSTANCES: "4 of class 'ball'",
    }


def test_the_adapter_comes_back_as_it_was():
    network = Toy().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert broken(replace(TOY, load_network=lambda: network)) == {}
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("axes", [2, 3])
def test_an_adapter_without_a_case_is_tried_on_noise(axes):
    adapter = replace(
        TOY,
        embedded_case=Adapter.embedded_case,
        load_network=lambda: Toy(axes=axes),
    )
    found = findings(adapter)
    assert all(finding.holds for finding in found.values()), found
    assert found[CASE].detail == "skipped, there is none"
    assert found[INSTANCES].detail == "skipped, there is no embedded case"


def test_a_window_larger_than_the_case_is_padded():
    sizes = []

    def look(network, forward, image):
        sizes.append(tuple(image.shape[2:]))
        return forward(image)

    assert broken(replace(with_network(look), predict=SlidingWindow((24, 16, 16)))) == {}
    assert set(sizes) == {(24, 16, 16)}


def test_windows_are_counted():
    found = findings(replace(TOY, predict=SlidingWindow((12, 12, 12))))
    assert found[WINDOWS].detail == "8 of 12 x 12 x 12 voxels"


FORMS = {
    "a list": (lambda made: [made], "logits are taken out of a list"),
    "a mapping": (lambda made: {"out": made, "aux": made}, "logits are taken out of a dict"),
    "deep supervision": (
        lambda made: (nn.functional.avg_pool3d(made, 2), made),
        "logits are taken out of a tuple",
    ),
    "a half": (
        lambda made: nn.functional.avg_pool3d(made, 2),
        "logits at 1/2 of the resolution are interpolated linearly",
    ),
    "a quarter": (
        lambda made: (nn.functional.avg_pool3d(made, 4),),
        "logits are taken out of a tuple; logits at 1/4 of the resolution are interpolated "
        "linearly",
    ),
}


@pytest.mark.parametrize(("change", "words"), FORMS.values(), ids=FORMS)
def test_another_form_of_logits_is_told_and_no_failure(change, words):
    found = findings(with_network(lambda network, forward, image: change(forward(image))))
    assert found[INPUT].holds
    assert found[INPUT].detail == words
    unkept = {what for what, finding in found.items() if not finding.holds}
    assert unkept <= {INSTANCES}  # coarse logits of so small balls are below the threshold


def test_sigmoids_and_mirrors_are_fine():
    adapter = replace(TOY, predict=WholeImage(activation="sigmoid"), mirror_axes=(0, 2))
    found = findings(adapter)
    assert list(found) == [*PLAIN, WINDOWS, PLACES, MIRRORS, INSTANCES, ROWS]
    assert broken(adapter) == {}
    assert found[MIRRORS].detail == "along 0, 2"


def test_the_command_prints_the_list(monkeypatch):
    use_toys(monkeypatch)
    done = segxai("check", "toy")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line[5:].split(":")[0] for line in lines] == PROMISES
    assert all(line.startswith("ok   ") for line in lines)
    assert f"ok   {INSTANCES}: 4 of class 'ball'" in lines
    done = segxai("check", "toy_nan")
    assert f"FAIL {SHAPE}: logits are not finite" in done.out.splitlines()
    assert "adapter 'toy_nan' fails" in done.error
    assert "unknown adapter 'tyo'" in segxai("check", "tyo").error


def test_the_adapter_of_this_project_passes():
    done = segxai("check", "ms_lesion")
    assert done.status == 0, done.out
    summary, *lines = done.out.splitlines()
    assert summary == f"ms_lesion: {load_adapter('ms_lesion').summary}"
    assert [line[5:].split(":")[0] for line in lines] == PROMISES
    assert f"ok   {WINDOWS}: 4 of 96 x 96 x 96 voxels" in lines
    assert (
        lines[-1]
        == f"ok   {ROWS}: windowed; a row keeps to 31x31x31 of the window's 96x96x96 voxels"
    )


# ------------------------------------------------------------------------------------------- lies


def change_weights(network, forward, image):
    with torch.no_grad():
        network.logits.bias += torch.tensor([1e-3, -1e-3])  # a sum would not notice
    return forward(image)


def switch_mode(network, forward, image):
    network.train()
    return forward(image)


def add_hook(network, forward, image):
    network.features.register_forward_hook(lambda *arguments: None)
    return forward(image)


def add_pre_hook(network, forward, image):
    network.features.register_forward_pre_hook(lambda *arguments: None)
    return forward(image)


def unfreeze(network, forward, image):
    network.logits.weight.requires_grad_(True)
    return forward(image)


def update_statistics(network, forward, image):
    mean = getattr(network, "mean", torch.zeros(2))
    network.register_buffer("mean", mean, persistent=False)
    made = forward(image)
    return nn.functional.batch_norm(made, network.mean, torch.ones(2), training=True)


def count(network, forward, image):
    network.register_buffer("count", getattr(network, "count", torch.zeros(())) + 1)
    return forward(image)


NETWORKS = {
    "probabilities": (
        lambda network, forward, image: forward(image).softmax(dim=1),
        {LOGITS: "the network returns probabilities: leave out its last softmax or sigmoid"},
    ),
    "log-probabilities": (
        lambda network, forward, image: forward(image).log_softmax(dim=1),
        {LOGITS: "the network returns log-probabilities: leave out its last log-softmax"},
    ),
    "random": (
        lambda network, forward, image: forward(image + 0.01 * torch.randn_like(image)),
        {TWICE: "two passes in evaluation mode differ: something in the network is random"},
    ),
    "dropout that is always on": (
        lambda network, forward, image: forward(nn.functional.dropout(image, training=True)),
        {TWICE: "two passes in evaluation mode differ: something in the network is random"},
    ),
    "probabilities of each class": (
        lambda network, forward, image: forward(image).sigmoid(),
        {LOGITS: "the network returns probabilities: leave out its last softmax or sigmoid"},
    ),
    "a coarser grid of no known stride": (
        lambda network, forward, image: nn.functional.avg_pool3d(forward(image), 3),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (1, 2, 6, 6, 5); segxai needs logits"},
    ),
    "a larger grid": (
        lambda network, forward, image: nn.functional.pad(forward(image), [1] * 6),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (1, 2, 22, 20, 18); segxai needs logits"},
    ),
    "another number of channels": (
        lambda network, forward, image: nn.functional.conv3d(image, torch.ones(1, 3, 1, 1, 1)),
        {INPUT: "given (1, 2, 20, 18, 16), channels bright, other: the network fails on an input"},
    ),
    "a batch": (
        lambda network, forward, image: forward(torch.cat([image, image])),
        {INPUT: "the network maps (1, 2, 20, 18, 16) to (2, 2, 20, 18, 16)"},
    ),
    "another number of classes": (
        lambda network, forward, image: forward(image)[:, :1],
        {SHAPE: "(1, 2, 20, 18, 16) gives (1, 1, 20, 18, 16), not (1, 2, 20, 18, 16)"},
    ),
    "a number": (
        lambda network, forward, image: 1.0,
        {INPUT: "the network returns a float; segxai needs a tensor of logits"},
    ),
    "nothing is found": (
        lambda network, forward, image: forward(image) - 20 * torch.eye(2)[1][:, None, None, None],
        {INSTANCES: "no instance of class 'ball' is found in it: look at threshold"},
    ),
    "not a number": (
        lambda network, forward, image: forward(image) * torch.nan,
        {SHAPE: "logits are not finite"},
    ),
    "a deaf channel": (
        lambda network, forward, image: forward(image * torch.tensor([1, 0])[:, None, None, None]),
        {GRADIENTS: "no gradient reaches channel other"},
    ),
    "deaf": (
        lambda network, forward, image: forward(image.round()),
        {GRADIENTS: "no gradient reaches channel bright, other"},
    ),
    "detached": (
        lambda network, forward, image: forward(image.detach()),
        {GRADIENTS: "no gradient reaches the image: the network detaches it, or runs in no_grad"},
    ),
    "changing weights": (change_weights, {LEFT: "its tensor logits.bias"}),
    "changing mode": (switch_mode, {LEFT: "its mode of the whole"}),
    "growing hooks": (add_hook, {LEFT: "its hooks of features"}),
    "growing pre-hooks": (add_pre_hook, {LEFT: "its hooks of features"}),
    "wanting gradients": (unfreeze, {LEFT: "its gradient of logits.weight"}),
    "statistics of a batch": (update_statistics, {LEFT: "its tensor mean"}),
    "counting passes": (count, {LEFT: "its tensor count"}),
}


@pytest.mark.parametrize(("change", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_a_network_that_lies_is_caught(change, expected):
    wrong = broken(with_network(change))
    for promise, words in expected.items():
        assert promise in wrong, wrong
        assert words in wrong[promise]
    if INPUT in expected:  # nothing else can be looked at
        assert list(wrong) == [INPUT]


def test_random_weights_are_caught():
    adapter = replace(TOY, load_network=lambda: nn.Conv3d(2, 2, 3, padding=1), layer=None)
    assert broken(adapter) == {SAME_WEIGHTS: "loaded twice, weight differs: the weights are random"}


def test_weights_are_those_of_the_named_file(tmp_path):
    path = tmp_path / "w.safetensors"
    named = replace(TOY, weights=path)
    save_file({"other": torch.zeros(2)}, path)
    assert findings(named)[NAMED_WEIGHTS].detail.endswith("has other names for its tensors")
    save_file(Toy().state_dict(), path)
    assert broken(named) == {}
    assert findings(named)[NAMED_WEIGHTS].detail == "w.safetensors"
    name, *_ = state = Toy().state_dict()
    save_file({**state, name: state[name] + 1}, path)
    assert broken(named) == {
        NAMED_WEIGHTS: f"{name} is not as in w.safetensors, which `weights` names"
    }


def test_a_case_that_changes_is_caught():
    image = picture()
    noise = np.random.default_rng(0)
    restless = replace(TOY, embedded_case=lambda: bare_case(image + noise.random(1, np.float32)))
    assert broken(restless)[CASE].startswith("loaded twice, the image differs")


def raise_error(*arguments):
    raise KeyError("weights")


def case_of(**changes):
    return replace(TOY, embedded_case=lambda: replace(bare_case(picture()), **changes))


def without(**changes):
    return replace(TOY, **changes)


def counting(**changes):
    return replace(TOY, criteria=replace(TOY.criteria, **changes))


def unchecked(record, **changes):
    """As outside of this test run, where no type is looked at."""
    changed = copy(record)
    vars(changed).update(changes)
    return changed


RECORDS = {
    "activation": (
        without(predict=unchecked(WholeImage(), activation="relu")),
        RECORD,
        "unknown activation 'relu'; known: sig",
    ),
    "divisor": (without(predict=WholeImage(divisor=0)), RECORD, "divisor 0: give 1 or more"),
    "inputs": (without(inputs=("image", "image")), RECORD, "files must be distinct names"),
    "overlap": (without(predict=SlidingWindow((8, 8, 8), overlap=1.0)), RECORD, "with overlap 1.0"),
    "request": (
        without(embedded_options={"sample": 3}),
        RECORD,
        "unknown option 'sample'",
    ),
    "samples": (without(embedded_options={"samples": 0}), RECORD, "samples=0: give a number"),
    "mirrors": (without(mirror_axes=(0, 3)), MIRRORS, "mirror_axes (0, 3): give distinct spatial"),
    "mirrors twice": (without(mirror_axes=(1, 1)), MIRRORS, "mirror_axes (1, 1): give distinct"),
    "volume": (counting(min_volume_mm3=1e5), INSTANCES, "no instance of class 'ball' is found"),
    "unknown target": (counting(class_index=2), RECORD, "no class 2; known: 0 to 1"),
    "channels": (without(channels=("a", "a")), RECORD, "channels must be distinct names"),
    "no channels": (without(channels=()), RECORD, "channels must be distinct names"),
    "classes": (
        without(classes=("ball", "ball")),
        RECORD,
        "classes must be distinct names, found ('ball', 'ball')",
    ),
    "layer": (without(layer="featurse"), LAYER, "unknown layer 'featurse'; known: active"),
    "network": (without(load_network=raise_error), LOADS, "KeyError: 'weights'"),
    "case": (without(embedded_case=raise_error), CASE, "KeyError: 'weights'"),
    "mended case": (
        without(embedded_case=lambda: Adapter.embedded_case()),
        CASE,
        "this plugin has no embedded case",
    ),
    "window": (
        without(predict=SlidingWindow((8, 8))),
        CASE,
        "a window of 2 axes (8, 8) does not fit",
    ),
    "image": (
        case_of(image=picture()[:1]),
        CASE,
        "shape (1, 20, 18, 16), expected 2 channels on the grid (20, 18, 16)",
    ),
    "names": (case_of(channels=("other", "bright")), CASE, "the adapter's are ('bright', 'other')"),
    "NaN": (case_of(image=picture() * np.float32(np.nan)), CASE, "NaN or infinite values"),
    "float64": (case_of(image=picture().astype(float)), CASE, "the image is float64, not float32"),
    "foreground": (
        case_of(foreground=np.zeros((20, 18, 16), bool)),
        CASE,
        "the foreground is empty",
    ),
    "source": (
        case_of(source_grid=Grid((20, 18, 16), np.diag([1.0, 0, 1, 1]))),
        CASE,
        "the affine of the source_grid has shape (4, 4) for 3 axes, or is singular",
    ),
    "no source": (case_of(domains_on_source=True), CASE, "on the source_grid, but there is none"),
    "affine": (
        case_of(grid=Grid((20, 18, 16), np.diag([1.0, 1, 0, 1]))),
        CASE,
        "the affine of the grid has shape (4, 4) for 3 axes, or is singular",
    ),
}


@pytest.mark.parametrize(("adapter", "promise", "words"), RECORDS.values(), ids=RECORDS)
def test_a_record_that_does_not_fit_is_caught(adapter, promise, words):
    wrong = broken(adapter)
    assert next(iter(wrong)) == promise
    assert words in wrong[promise]


def test_nothing_is_looked_at_after_a_failure_to_load():
    assert list(findings(without(load_network=raise_error)))[-1] == LOADS
    assert list(findings(without(embedded_case=raise_error)))[-1] == CASE


def test_an_error_of_the_user_is_told_in_its_own_words():
    def missing():
        raise SegxaiError("no weights here; download them")

    assert broken(without(load_network=missing)) == {LOADS: "no weights here; download them"}


def test_a_case_is_a_case():
    assert isinstance(TOY.embedded_case(), Case)


# ----------------------------------------------------------------------------------------- places


def moved(change):
    """The toy with cases that are changed when they are loaded."""
    return replace(TOY, load_case=lambda files: change(load_case(files)))


def elsewhere(case, *, factor=1.0, shift=0.0):
    """The case with another affine on its grid, and the file's own as source_grid."""
    affine = case.grid.affine * np.array([1, 1, factor, 1]) + np.eye(4)[:, :1] * [0, 0, 0, shift]
    return replace(case, grid=Grid(case.grid.shape, affine), source_grid=case.grid)


ELSEWHERE = "lies elsewhere in its case"
MISPLACED = {
    "flipped": (lambda case: replace(case, image=case.image[:, ::-1].copy()), ELSEWHERE),
    "flipped in the last axis": (
        lambda case: replace(case, image=case.image[..., ::-1].copy()),
        ELSEWHERE,
    ),
    "one channel flipped": (
        lambda case: replace(case, image=np.stack([case.image[0], case.image[1, ::-1]])),
        "channel other: what a file shows",
    ),
    "stretched": (lambda case: elsewhere(case, factor=1.3), ELSEWHERE),
    "shifted by two voxels": (lambda case: elsewhere(case, shift=2.0), ELSEWHERE),
    "rolled by a voxel": (
        lambda case: replace(case, image=np.roll(case.image, 1, axis=1)),
        ELSEWHERE,
    ),
    "empty": (lambda case: replace(case, image=0 * case.image), "(correlation 0.00)"),
    "another source": (
        lambda case: replace(case, source_grid=Grid.unit(case.grid.shape)),
        "source_grid is not the file's: source_grid (20 x 18 x 16 voxels of 1 mm, RAS) lies up to",
    ),
}


@pytest.mark.parametrize(("change", "words"), MISPLACED.values(), ids=MISPLACED)
def test_a_case_that_lies_elsewhere_than_its_file_is_caught(change, words):
    wrong = broken(moved(change))
    assert list(wrong) == [PLACES]
    assert words in wrong[PLACES]


def test_a_case_on_another_grid_with_its_own_affine_is_fine():
    def resampled(case):
        grid = working_grid(case.grid, 1.3)
        image = resample(case.image, case.grid, grid, order=1)
        everywhere = np.ones(grid.shape, bool)
        kept = {"source_grid": case.grid, "foreground": everywhere}
        return replace(case, image=100 - 3 * image, grid=grid, **kept)

    (wrong,) = broken(moved(resampled)).values()  # a negative never was an intensity
    assert "(correlation -1.00)" in wrong
    assert broken(moved(lambda case: replace(resampled(case), image=-resampled(case).image))) == {}


def test_a_reader_of_other_files_is_left_alone():
    found = findings(replace(TOY, load_case=raise_error))
    assert found[PLACES].holds
    assert found[PLACES].detail == ("skipped, load_case takes no made-up file: KeyError: 'weights'")


@pytest.mark.parametrize("flip", [1, -1])
def test_a_reader_of_pictures_is_tried_on_pictures(flip):
    def read(files):
        from PIL import Image

        planes = [np.asarray(Image.open(files[name]), np.float32)[::flip] for name in files]
        return bare_case(np.stack(planes))

    adapter = replace(
        TOY,
        load_network=lambda: Toy(axes=2),
        embedded_case=lambda: bare_case(picture((20, 18))),
        load_case=read,
    )
    finding = findings(adapter)[PLACES]
    assert finding.holds == (flip == 1)
    assert finding.detail.startswith("a made-up picture of 20 x 18" if flip == 1 else "channel br")


# ------------------------------------------------------- predictors of an adapter's own, detections


def with_shares(scale):
    def build(network, case, criteria):
        layout = whole_image(case.grid.shape)
        return Predictor(network, replace(layout, importance=scale * layout.importance))

    return replace(TOY, predict=build)


def test_shares_that_do_not_sum_to_one_are_caught():
    assert broken(with_shares(1.0)) == {}
    assert findings(with_shares(1.0))[INPUT].detail == "through the adapter's own predictor"
    assert broken(with_shares(0.5))[WINDOWS] == (
        "the shares of the windows in a voxel sum to 0.5 to 0.5, not to 1"
    )


def read_out(shape):
    """An adapter whose instances live on another grid than its image."""
    grid = Grid(shape, np.eye(4))

    def build(network, case, criteria):
        layout = whole_image(case.grid.shape)
        return Predictor(network, layout, readout=Readout.linear(case.grid.shape, shape))

    def case():
        return replace(bare_case(picture()), source_grid=grid, domains_on_source=True)

    return replace(TOY, predict=build, embedded_case=case, load_case=raise_error)


def test_logits_on_the_grid_of_instances_are_fine():
    assert broken(read_out((30, 27, 24))) == {}
    other = replace(read_out((30, 27, 24)), embedded_case=read_out((30, 27, 20)).embedded_case)
    assert (
        broken(other)[SHAPE]
        == "(1, 2, 20, 18, 16) gives (1, 2, 30, 27, 24), not (1, 2, 30, 27, 20)"
    )


class Queries(Toy):
    """Two detections: balls on the left, balls on the right."""

    def forward(self, image):
        made = super().forward(image)[:, 1:]
        left = torch.arange(made.shape[2])[:, None, None] < made.shape[2] / 2
        return torch.cat([torch.where(left, made, -5.0), torch.where(left, -5.0, made)], dim=1)


def detector(change=lambda found, network: found, network=Queries):
    def detect(network, case, criteria):
        predictor = Predictor(network, whole_image(case.grid.shape), activation="sigmoid")
        masks = predictor(torch.from_numpy(case.image)[None])[0] > 0
        domains = tuple(np.argwhere(mask.numpy()) for mask in masks)
        return change(Detections(predictor, ("ball",) * 2, (0.9, 0.8), domains), network)

    return replace(TOY, predict=detect, load_network=network)


def test_an_honest_detector_keeps_every_promise():
    found = findings(detector())
    assert list(found) == [*PLAIN, WINDOWS, PLACES, DETECTIONS, ROWS]
    assert all(finding.holds for finding in found.values()), found
    assert found[DETECTIONS].detail == "2, 100 % of their voxels positive"


class Swapping(Queries):
    """Detections in the order of their mean logit, as models sort them by confidence."""

    def forward(self, image):
        made = super().forward(image)
        return made if abs(float(image.sum()) - float(picture().sum())) < 1e-3 else made.flip(1)


class Losing(Swapping):
    def forward(self, image):
        made = Queries.forward(self, image)
        swapped = Swapping.forward(self, image)
        return made if torch.equal(made, swapped) else made[:, :1]


DETECTORS = {
    "swapped channels": (
        detector(lambda found, network: replace(found, domains=found.domains[::-1])),
        "ball 1: its logits are not positive in its own domain",
    ),
    "not frozen": (
        detector(network=Swapping),
        "on a noisy image detections change places: freeze their identity on the clean image",
    ),
    "not as many": (
        detector(network=Losing),
        "on a noisy image the logits are (1, 20, 18, 16), not (2, 20, 18, 16)",
    ),
    "another class": (
        detector(lambda found, network: replace(found, names=("ball", "cube"))),
        "'cube' is not among the adapter's classes",
    ),
    "lengths": (
        detector(lambda found, network: replace(found, scores=(0.5,))),
        "names, scores and domains differ in length",
    ),
    "an empty domain": (
        detector(
            lambda found, network: replace(
                found, domains=(found.domains[0], np.zeros((0, 3), dtype=np.int64))
            )
        ),
        "ball 2: its domain is empty, or outside of the logits",
    ),
    "outside": (
        detector(
            lambda found, network: replace(found, domains=tuple(9 * one for one in found.domains))
        ),
        "ball 1: its domain is empty, or outside of the logits",
    ),
}


@pytest.mark.parametrize(("adapter", "words"), DETECTORS.values(), ids=DETECTORS)
def test_a_detector_that_lies_is_caught(adapter, words):
    assert words in broken(adapter)[DETECTIONS]


def test_a_detector_that_finds_nothing_says_so():
    nothing = detector(lambda found, network: replace(found, names=(), scores=(), domains=()))
    wrong = broken(nothing)
    assert wrong == {LOADS: "nothing is detected in made up: embed a case with something to detect"}
