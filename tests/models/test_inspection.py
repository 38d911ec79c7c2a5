"""Doubts about a network: which output it is, what its values are, and what torch makes of it."""

import json

import h5py
import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import segxai
from segxai.errors import SegxaiError, SegxaiWarning
from segxai.geometry import Grid
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.types import Case
from tests import commandline, literal
from tests.literal import seeded
from tests.networks import image_of, mask_of

SHAPE = (16, 16)
IMAGE = image_of((3, *SHAPE))
MASK = mask_of(SHAPE, (7, 8), (2, 1))
CHANNELS = ("red", "green", "blue")


class Net(nn.Module):
    """A small segmenter, with something done to its logits or its features."""

    def __init__(self, last=lambda logits: logits, between=torch.tanh, classes=2, stride=1):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(4, classes, 3, padding=1)
        self.between, self.last = between, last

    def forward(self, image):
        return self.last(self.second(self.between(self.first(image))))


def made(*arguments, **more):
    return seeded(Net(*arguments, **more))


def explained(network, **more):
    settings = {"method": "gradient", "aggregator": "mean", **more}
    return segxai.explain(network, IMAGE[0], MASK, **settings)


def literally(logits, class_index=1):
    """The mean of the rows of a function of the image."""
    return literal.mean(literal.rows(logits, IMAGE, np.argwhere(MASK), class_index))


def prepared(adapter, shape=SHAPE):
    pixels = image_of((3, *shape))[0].numpy()
    case = Case("made up", pixels, CHANNELS, Grid.unit(shape), np.ones(shape, dtype=bool))
    return prepare(adapter, case, Options.of(method="gradient", device="cpu"))


# --------------------------------------------------------------------------- which output it is


def test_heads_of_unet_plus_plus_are_refused_until_one_is_named():
    network = seeded(BasicUNetPlusPlus(2, 3, 2, (4, 4, 8, 8, 8, 4), deep_supervision=True)).eval()
    image, mask = image_of((3, 32, 32)), mask_of((32, 32), (13, 14), (2, 1))
    settings = {"method": "gradient", "aggregator": "mean"}
    with pytest.raises(SegxaiError, match=r"returns 4 tensors, of which 4 may be .* 3 \(1 x 2"):
        segxai.explain(network, image[0], mask, **settings)
    with pytest.raises(SegxaiError, match=r"returns 4 tensors, of which 4 may be"):
        segxai.wrap(network, channels=CHANNELS, shape=(32, 32))
    for which in (0, "3"):
        found = segxai.explain(network, image[0], mask, **settings, output=which)
        rows = literal.rows(lambda one, n=int(which): network(one)[n], image, np.argwhere(mask), 1)
        assert literal.worst(found.values, literal.mean(rows)) < 1e-5
        assert found.attrs["output"] == str(which)
    task = prepared(segxai.wrap(network, channels=CHANNELS, shape=(32, 32), output=3), (32, 32))
    with torch.no_grad():
        assert torch.equal(task.predictor(image), network(image)[3])
    assert task.case_provenance["output"] == "3"


def test_a_key_that_names_logits_needs_no_words():
    network = made(lambda logits: {"features": logits.repeat(1, 3, 1, 1), "seg_logits": logits})
    found = explained(network)
    assert found.attrs["output"] == "seg_logits"
    assert literal.worst(found.values, literally(made())) < 1e-5


def test_a_shape_that_fits_is_taken_and_said():
    network = made(lambda logits: (logits.repeat(1, 3, 1, 1), logits))
    adapter = segxai.wrap(network, channels=CHANNELS, classes=("rest", "object"), shape=SHAPE)
    with pytest.warns(SegxaiWarning, match=r"taken from 1 \(.*, not from 0 \(1 x 6") as shown:
        task = prepared(adapter)
    assert task.predictor.output == "1"
    assert task.warnings == tuple(str(one.message) for one in shown)
    with pytest.raises(SegxaiError, match="say which"):
        explained(network)  # who knows how many classes there are?


def test_a_single_tensor_has_no_name():
    with pytest.raises(SegxaiError, match="a single tensor: leave out output"):
        explained(made(), output=0)


MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(2, 2, 3, padding=1)
        self.last = last

    def forward(self, image):
        return self.last(self.first(image))

def heads():
    return Net(lambda logits: [-logits, logits])

def softmax():
    return Net(lambda logits: logits.softmax(dim=1))

def coarse():
    return Net(lambda logits: nn.functional.avg_pool3d(logits, 2))
"""
FILES = ("bright.nii.gz", "other.nii.gz", "--channels", "bright,other")
QUICK = ("--method", "gradient", "--aggregator", "mean", "--out", "r.h5")


@pytest.fixture
def ownnets(toys, case):
    (case / "ownnets.py").write_text(MODULE)
    return case


def test_the_shell_names_an_output_and_a_rerun_takes_it_again(ownnets):
    words = ("run", "--model", "ownnets:heads", *FILES, *QUICK, "--instances", "1")
    assert "say which, by name or number, with --output" in commandline.segxai(*words).error
    done = commandline.segxai(*words, "--output", "1")
    assert done.status == 0, done.err
    with h5py.File("r.h5") as file:
        stored = json.loads(file.attrs["provenance"])
    assert stored["output"] == stored["plugin"]["options"]["output"] == "1"
    again = commandline.segxai("rerun", "r.h5", "--model", "ownnets:heads")
    assert again.status == 0, again.err
    assert "warning" not in again.err


# ------------------------------------------------------------------------------- probabilities


def test_probabilities_are_refused_at_every_door(ownnets):
    network = made(lambda logits: logits.softmax(dim=1))
    message = "returns probabilities, which sum to 1 .* leave out the network's last softmax"
    with pytest.raises(SegxaiError, match=message):
        explained(network)
    with pytest.raises(SegxaiError, match=message):
        segxai.wrap(network, channels=CHANNELS, shape=SHAPE)
    unseen = segxai.wrap(network, channels=CHANNELS, classes=("rest", "object"))
    with pytest.raises(SegxaiError, match=message):
        prepared(unseen)
    error = commandline.segxai("run", "--model", "ownnets:softmax", *FILES, *QUICK).error
    assert "sum to 1 over its classes" in error


def test_the_logits_beside_probabilities_can_be_named():
    network = made(lambda logits: (logits.softmax(dim=1), logits))
    with pytest.raises(SegxaiError, match="0 .* probabilities that sum to 1"):
        explained(network)
    with pytest.raises(SegxaiError, match="name them with output"):
        explained(network, output=0)
    assert literal.worst(explained(network, output=1).values, literally(made())) < 1e-5


@pytest.mark.parametrize("classes", [1, 3])
def test_values_between_0_and_1_are_in_doubt(classes):
    network = made(lambda logits: torch.sigmoid(9 * logits), classes=classes)
    with pytest.warns(SegxaiWarning, match="between 0 and 1.*leave out its last sigmoid"):
        found = explained(network, class_index=0)
    assert "between 0 and 1" in found.attrs["warnings"][0]


def test_logits_that_are_small_by_chance_are_not():
    network = made(lambda logits: 0.4 + 0.1 * torch.tanh(logits), classes=3)
    assert explained(network).attrs["warnings"] == []


def test_logarithms_of_probabilities_are_in_doubt():
    with pytest.warns(SegxaiWarning, match="leave out its last log-softmax"):
        explained(made(lambda logits: logits.log_softmax(dim=1)))


# ------------------------------------------------------------------- queries, boxes, coarse logits


def masks(count, size):
    return lambda logits: functional.interpolate(logits, size).repeat(1, count // 2, 1, 1)


MASKS = {
    "MaskFormer": lambda masks: {
        "class_queries_logits": torch.randn(1, 20, 3),
        "masks_queries_logits": masks,
    },
    "DETR": lambda masks: {"logits": torch.randn(1, 20, 3), "pred_masks": masks},
    "torchvision's boxes": lambda masks: [
        {"boxes": torch.rand(4, 4), "scores": torch.rand(4), "masks": masks[0, :4, None]}
    ],
    "queries in a tuple": lambda masks: (torch.randn(1, 20, 3), masks),
    "boxes with prototypes": lambda masks: (torch.randn(1, 4 + 2 + 20, 84), (masks,)),
    "boxes first": lambda masks: (masks, torch.randn(1, 84, 4 + 1 + 2 + 20)),
}


@pytest.mark.parametrize("pack", MASKS.values(), ids=MASKS)
def test_models_that_find_instances_belong_to_another_plugin(pack):
    network = made(lambda logits: pack(masks(20, (4, 4))(logits)))
    message = "find instances itself, by queries or boxes .* use the plugin natural_image"
    with pytest.raises(SegxaiError, match=message):
        explained(network)
    with pytest.raises(SegxaiError, match=message):
        segxai.wrap(network, channels=CHANNELS, shape=SHAPE)


def test_tokens_beside_logits_are_no_queries():
    network = made(
        lambda logits: {"out": logits.repeat(1, 10, 1, 1), "tokens": torch.randn(1, 196, 8)}
    )
    assert explained(network).attrs["output"] == "out"


@pytest.mark.filterwarnings("ignore:the network's logits are coarse")
def test_a_table_and_coarse_logits_can_be_named():
    network = made(lambda logits: (torch.randn(1, 20, 3), masks(20, (4, 4))(logits)))
    assert explained(network, output=1).attrs["output"] == "1"


def test_coarse_logits_are_said_and_corners_can_be_aligned():
    network = made(stride=2)

    def fine(image, **corners):
        return functional.interpolate(network(image), SHAPE, mode="bilinear", **corners)

    with pytest.warns(SegxaiWarning, match=r"coarse, 8 x 8 for an input of 16 x 16: .* without"):
        usual = explained(network)
    assert literal.worst(usual.values, literally(fine)) < 1e-5
    aligned = explained(network, align_corners=True)  # what was asked for needs no warning
    wanted = literally(lambda image: fine(image, align_corners=True))
    assert literal.worst(aligned.values, wanted) < 1e-5
    assert literal.worst(aligned.values, usual.values) > 0.01


def test_the_shell_aligns_corners_and_a_rerun_does_so_again(ownnets):
    words = ("run", "--model", "ownnets:coarse", *FILES, *QUICK, "--threshold", "0.4")
    done = commandline.segxai(*words, "--align-corners")
    assert done.status == 0, done.err
    assert "are coarse" not in done.err
    with h5py.File("r.h5") as file:
        assert json.loads(file.attrs["provenance"])["plugin"]["options"]["align_corners"] is True
    again = commandline.segxai("rerun", "r.h5", "--model", "ownnets:coarse")
    assert again.status == 0, again.err
    assert "warning" not in again.err


# -------------------------------------------------------------------------------- chance and torch


def test_a_dropout_that_is_always_on_is_said():
    network = made(between=lambda features: functional.dropout(features, 0.5))
    with pytest.warns(SegxaiWarning, match="the network is random: two passes .* differ by"):
        found = explained(network)
    assert "is random" in found.attrs["warnings"][0]


def compiled_whole(network):
    return torch.compile(network, backend="aot_eager")


def compiled_part(network):
    network.first = torch.compile(network.first, backend="aot_eager")
    return network


def compiled_in_place(network):
    network.compile(backend="aot_eager")
    return network


def compiled_function(network):
    network.forward = torch.compile(network.forward, backend="aot_eager")
    return network


@pytest.mark.parametrize(
    "compiled", [compiled_whole, compiled_part, compiled_in_place, compiled_function]
)
def test_what_is_compiled_runs_as_it_was_written(compiled):
    network = compiled(made())
    for engine in ("auto", "windowed"):
        found = explained(network, engine=engine, aggregator="signed_max")
        wanted = literal.signed_max(literal.rows(made(), IMAGE, np.argwhere(MASK), 1))
        assert literal.worst(found.values, wanted) < 1e-5
    adapter = segxai.wrap(network, channels=CHANNELS, shape=SHAPE)
    assert adapter.name == "Net"
    assert prepared(adapter).predictor.network is adapter.load_network()


def test_reentrant_checkpointing_is_one_line():
    def twice(features, **how):
        return checkpoint(torch.tanh, features, **how)

    with pytest.raises(SegxaiError, match="reentrant checkpointing.*use_reentrant=False"):
        explained(made(between=lambda features: twice(features, use_reentrant=True)))
    found = explained(made(between=lambda features: twice(features, use_reentrant=False)))
    assert literal.worst(found.values, literally(made())) < 1e-5


def resized(mode, corner=None, **how):
    """Interpolates a corner of the logits, and brings them back to the image's size."""

    def last(logits):
        part = logits if corner is None else logits[..., :corner, :corner]
        return functional.interpolate(functional.interpolate(part, mode=mode, **how), SHAPE)

    return last


@pytest.mark.parametrize("factor", [1.1, 1.05])
def test_bicubic_gradients_that_torch_computes_wrongly_are_said(factor):
    with pytest.warns(
        SegxaiWarning, match=f"bicubic interpolation of 9 x 9 by factors of {factor}"
    ):
        found = explained(made(resized("bicubic", 9, scale_factor=factor)))
    assert "give the interpolation a size" in found.attrs["warnings"][0]


@pytest.mark.parametrize(("axes", "size", "factor"), [(1, 9, 1.1), (3, 9, 1.1), (3, 3, 1.25)])
def test_nearest_gradients_that_torch_computes_wrongly_are_said(axes, size, factor):
    convolution = nn.Conv1d if axes == 1 else nn.Conv3d
    network = seeded(nn.Sequential(convolution(1, 2, 1), nn.Upsample(None, factor)))
    shape, where = (size,) * axes, (1,) * axes
    image, mask = image_of((1, *shape))[0], mask_of(shape, where, where)
    with pytest.warns(
        SegxaiWarning, match=f"nearest interpolation of {size}.* by factors of {factor}"
    ):
        segxai.explain(network, image, mask, method="gradient")


RIGHT = {
    "in 2D": resized("nearest", 9, scale_factor=1.1),
    "bilinear": resized("bilinear", 9, scale_factor=1.1),
    "whole": resized("bicubic", scale_factor=2),
    "another size": resized("bicubic", 9, scale_factor=1.5),
    "to a size": resized("bicubic", 9, size=(9, 9)),
    "recomputed": resized("bicubic", 9, scale_factor=1.1, recompute_scale_factor=True),
}


@pytest.mark.parametrize("last", RIGHT.values(), ids=RIGHT)
def test_other_interpolations_are_right(last):
    assert explained(made(last)).attrs["warnings"] == []


class NeedsValues(torch.autograd.Function):
    """A backward pass outside of torch."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values**2

    @staticmethod
    def backward(context, gradient):
        (values,) = context.saved_tensors
        return torch.from_numpy(2 * values.detach().numpy() * gradient.numpy())


def test_a_function_that_needs_real_tensors_gets_them():
    found = explained(made(between=NeedsValues.apply), aggregator="signed_max")
    plain = made(between=lambda features: features**2)
    wanted = literal.signed_max(literal.rows(plain, IMAGE, np.argwhere(MASK), 1))
    assert literal.worst(found.values, wanted) < 1e-5
