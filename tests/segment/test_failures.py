"""Networks that fail: one line with their own last line, at every door."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import segxai as public
from segxai import SegxaiError
from segxai.segment.failures import NetworkError, failures_of_network
from tests.commandline import segxai
from tests.natural_image import models as pictures

IMAGE, MASK = (
    np.random.default_rng(0).normal(size=(2, 24, 20)).astype(np.float32),
    np.zeros((24, 20), dtype=bool),
)
MASK[8:12, 8:12] = True


class Failing(nn.Module):
    """Two channels to two classes, except for what the class below does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, image):
        return self.layer(image)


class Argument(Failing):
    def forward(self, image, time):
        return self.layer(image)


class Index(Failing):
    def forward(self, image):
        return self.layer(image)[:, torch.tensor([0, 5])]


class Key(Failing):
    def forward(self, image):
        return {"out": self.layer(image)}["logits"]


class OwnError(Exception):
    """An exception of one's own."""


class Own(Failing):
    def forward(self, image):
        raise OwnError("first line\nsecond line")


class Silent(Failing):
    def forward(self, image):
        raise OwnError


FORWARD = {
    Argument: r"TypeError: .*missing 1 required positional argument: 'time'",
    Index: "IndexError: index 5 is out of bounds",
    Key: "KeyError: 'logits'",
    Own: "OwnError: first line$|OwnError: first line;",
    Silent: "OwnError: OwnError",
}


class InPlace(Failing):
    """Writes into what the backward pass of the exponential needs."""

    def forward(self, image):
        grown = self.layer(image).exp()
        grown += 1
        return grown


class Broken(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        return values * 2

    @staticmethod
    def backward(context, gradient):
        raise OwnError("no way back")


class NoWayBack(Failing):
    def forward(self, image):
        return Broken.apply(self.layer(image))


BACKWARD = {
    InPlace: "RuntimeError: one of the variables needed .* modified by an inplace operation",
    NoWayBack: "OwnError: no way back",
}


def one_line(caught):
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FORWARD)
def test_a_forward_pass_that_fails_is_one_line(kind):
    words = rf"the network fails on an input of shape \(1, 2, 24, 20\): ({FORWARD[kind]})"
    with pytest.raises(SegxaiError, match=words) as caught:
        public.explain(kind(), IMAGE, MASK, method="gradient")
    one_line(caught)
    with pytest.raises(SegxaiError, match="the network fails on an input") as caught:
        public.wrap(kind(), channels=("a", "b"), shape=(24, 20))
    one_line(caught)


@pytest.mark.parametrize("kind", BACKWARD)
@pytest.mark.parametrize(
    "asked",
    [
        {"engine": "auto"},
        {"engine": "dense"},
        {"engine": "dense", "batch": 4},
        {"aggregator": "mean"},
        {"method": "gradcam++", "layer": "layer"},
    ],
    ids=lambda asked: " ".join(map(str, asked.values())),
)
def test_a_backward_pass_that_fails_is_one_line(kind, asked):
    words = f"the network fails in its backward pass: {BACKWARD[kind]}"
    with pytest.raises(SegxaiError, match=words) as caught:
        public.explain(kind(), IMAGE, MASK, **{"method": "gradient", **asked})
    one_line(caught)


@pytest.mark.parametrize("kind", BACKWARD)
def test_the_windowed_engine_says_that_another_may_do(kind):
    words = f"cannot carry rows through the network's backward pass: {BACKWARD[kind]}.*; use engi"
    with pytest.raises(SegxaiError, match=words) as caught:
        public.explain(kind(), IMAGE, MASK, method="gradient", engine="windowed", batch=2)
    one_line(caught)


def test_memory_that_runs_out_is_no_failure_of_the_network():
    class Full(Failing):
        def forward(self, image):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 TB")

    with pytest.raises(MemoryError, match="can't allocate memory: 8 TB"):
        public.explain(Full(), IMAGE, MASK, method="gradient")


def test_only_what_is_raised_in_a_module_is_a_failure_of_the_network():
    with (
        pytest.raises(ZeroDivisionError),
        failures_of_network("here", only_in_modules=True),
    ):
        1 / 0  # noqa: B018
    with (
        pytest.raises(NetworkError, match="the network fails here: OwnError: first line") as caught,
        failures_of_network("here", only_in_modules=True),
    ):
        Own()(torch.ones(1))
    assert isinstance(caught.value.__cause__, OwnError)


# ------------------------------------------------------------------------------------------- sizes


class Patches(nn.Module):
    """Patches of any size, each a token; other sizes fail, as in a vision transformer."""

    def __init__(self, patch):
        super().__init__()
        torch.manual_seed(0)
        self.patch = patch
        self.embed = nn.Conv2d(2, 4, patch, stride=patch)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        assert all(n % self.patch == 0 for n in image.shape[2:]), "bad size"
        tokens = self.head(self.embed(image))
        return nn.functional.interpolate(tokens, scale_factor=float(self.patch))


class Folded(nn.Module):
    """The same without a convolution that tells the size of a patch."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch
        self.head = nn.Linear(2 * patch * patch, 2 * patch * patch)

    def forward(self, image):
        y, x = (n // self.patch for n in image.shape[2:])
        parts = image.reshape(2, y, self.patch, x, self.patch).permute(1, 3, 0, 2, 4)
        made = self.head(parts.reshape(y, x, -1)).reshape(y, x, 2, self.patch, self.patch)
        return made.permute(2, 0, 3, 1, 4).reshape(1, 2, *image.shape[2:])


NETWORKS = {
    "14": (lambda: Patches(14), 14),
    "13": (lambda: Patches(13), 13),
    "14, no convolution": (lambda: Folded(14), 14),
    "6": (lambda: Folded(6), 6),
}


@pytest.mark.parametrize(("make", "patch"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("shape", [(46, 71), (100, 100), (300, 215), (190, 190)])
def test_the_size_that_a_network_needs_is_found_and_named(make, patch, shape):
    """100 becomes 112 as a multiple of 16, which is one of 14 by accident; 190 is tried as 126."""
    adapter = public.wrap(make(), channels=("a", "b"), shape=shape)
    assert adapter.predict.divisor == patch
    assert any(f"sizes that are multiples of {patch}" in note for note in adapter.notes)
    fitting = [patch * -(-n // patch) for n in shape]
    window = ",".join(map(str, fitting))
    with pytest.raises(SegxaiError, match=f"multiples of {patch}, such as window={window}"):
        public.wrap(make(), channels=("a", "b"), window=shape)
    image, mask = np.zeros((2, *shape), np.float32), np.zeros(shape, bool)
    mask[20:22, 20:22] = True
    words = f"takes multiples of {patch}, such as {' x '.join(map(str, fitting))}"
    with pytest.raises(SegxaiError, match=words):
        public.explain(make(), image, mask, method="gradient", aggregator="mean")


def test_a_size_that_fits_is_not_padded():
    for size in (14 * 7, 14 * 20):
        adapter = public.wrap(Patches(14), channels=("a", "b"), shape=(size, size))
        assert adapter.predict.divisor == 1


def test_a_network_of_one_size_still_gets_a_smaller_image():
    class One(Failing):
        def forward(self, image):
            assert image.shape[2:] == (64, 64), "64 x 64 only"
            return self.layer(image)

    adapter = public.wrap(One(), channels=("a", "b"), shape=(60, 60))
    assert adapter.predict.layout((60, 60)).windows[0].size == (64, 64)


# -------------------------------------------------------------------------------------- every door


def test_a_model_on_the_command_line(case, toys):
    Path("failingnets.py").write_text(
        "from torch import nn\n\nclass network(nn.Conv3d):\n    def __init__(self):\n"
        "        super().__init__(2, 2, 1)\n\n    def forward(self, image):\n"
        "        return super().forward(image)[:, [0, 7]]\n"
    )
    words = ("--channels", "bright,other", "bright.nii.gz", "other.nii.gz", "--out", "r.h5")
    error = segxai("run", "--model", "failingnets:network", *words).error
    assert "the network fails on an input of shape" in error
    assert "IndexError: index 7 is out of bounds" in error


@pytest.mark.parametrize("make", [pictures.segformer, pictures.mask2former])
def test_a_folder_whose_processor_makes_other_channels(folder, make):
    """Its network takes four channels, the processor makes three."""
    path = make(folder / "model")
    pictures.with_four_channels(path)
    pictures.picture(folder / "p.png")
    error = segxai("run", "--plugin", "natural_image", "--checkpoint", path, "p.png").error
    assert "the network fails on" in error
    assert "to have 4 channels, but got 3 channels instead" in error


def test_a_processor_that_fails(folder):
    path = pictures.segformer(folder / "model")
    file = path / "preprocessor_config.json"
    file.write_text(file.read_text().replace('"size": {', '"size": {"shortest": 3,'))
    pictures.picture(folder / "p.png")
    done = segxai("run", "--plugin", "natural_image", "--checkpoint", path, "p.png")
    assert "image processor" in done.error
