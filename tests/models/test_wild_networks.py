"""What networks in the wild do: each is explained, and equal to a literal loop of autograd."""

import warnings
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import segxai
from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.methods.noise import noise_levels
from segxai.pipeline import survey
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.types import Case
from tests import literal
from tests.literal import seeded
from tests.networks import image_of

SHAPE = (32, 32)
VOXELS = np.array([(13, 14), (13, 15), (14, 14)])
DOMAIN = segxai.Instance(1, VOXELS).mask(SHAPE)


class Net(nn.Module):
    """A small segmenter in 2D."""

    def __init__(self, channels=3, classes=3, stride=1):
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, stride=stride, padding=1)
        self.last = nn.Conv2d(6, classes, 3, padding=1)

    def forward(self, image):
        return self.last(functional.gelu(self.first(image)))


def wanted(logits, image, class_index=1, aggregate=literal.signed_max, voxels=VOXELS):
    return aggregate(literal.rows(logits, image, voxels, class_index))


def check(network, logits=None, *, image=None, class_index=1, tolerance=1e-5, **more):
    """The map of a few voxels equals the loop over them, with any engine and aggregator."""
    image = image_of((3, *SHAPE)) if image is None else image
    expected = {
        "signed_max": wanted(logits or network, image, class_index),
        "mean": wanted(logits or network, image, class_index, literal.mean),
    }
    for engine in ("auto", "dense"):
        for aggregator, map_ in expected.items():
            found = segxai.explain(
                network,
                image[0],
                DOMAIN,
                class_index=class_index,
                method="gradient",
                aggregator=aggregator,
                engine=engine,
                **more,
            )
            assert literal.worst(found.values, map_) < tolerance, (engine, aggregator)
    return found


def case_of(image, channels=("red", "green", "blue")):
    pixels = image[0].numpy()
    shape = pixels.shape[1:]
    return Case("made up", pixels, channels, Grid.unit(shape), np.ones(shape, dtype=bool))


# -------------------------------------------------------------------------------- coarse logits


@pytest.mark.filterwarnings("ignore:the network's logits are coarse")
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_logits_at_a_fraction_of_the_resolution(stride):
    network = seeded(Net(stride=stride))

    def fine(image):
        return functional.interpolate(network(image), size=SHAPE, mode="bilinear")

    check(network, fine)


@pytest.mark.filterwarnings("ignore:the network's logits are coarse")
def test_coarse_logits_of_a_3d_network_in_windows():
    network = seeded(nn.Conv3d(2, 2, 4, stride=4))
    image, shape = image_of((2, 24, 16, 16)), (24, 16, 16)
    mask = np.zeros(shape, dtype=bool)
    mask[10:12, 7, 8] = True
    predictor = segxai.Predictor(network, segxai.sliding_window(shape, (16, 16, 16), 0.5))
    rows = literal.rows(predictor, image, np.argwhere(mask))
    found = segxai.explain(
        network, image[0], mask, method="gradient", window=(16, 16, 16), overlap=0.5
    )
    assert literal.worst(found.values, literal.signed_max(rows)) < 1e-5


# ------------------------------------------------------------------------------------- classes


def test_one_logit_for_a_binary_task():
    check(seeded(Net(classes=1)), class_index=0)


@pytest.mark.parametrize("score", ["margin", "probability"])
def test_one_logit_has_the_scores_of_a_sigmoid(score):
    network, image = seeded(Net(classes=1)), image_of((3, *SHAPE))

    def scored(image):
        logits = network(image)
        return logits if score == "margin" else torch.sigmoid(logits)

    found = segxai.explain(network, image[0], DOMAIN, class_index=0, method="gradient", score=score)
    assert literal.worst(found.values, wanted(scored, image, 0)) < 1e-5


@pytest.mark.parametrize("classes", [2, 21, 150])
def test_from_2_to_150_classes(classes):
    check(seeded(Net(classes=classes)), class_index=classes - 1)


@pytest.mark.parametrize(
    ("classes", "target"),
    [
        (("background", "car"), "car"),
        (("car", "background"), "car"),
        (("car", "person"), "person"),
        (("background", "car", "person"), "person"),
        (("car", "person", "background"), "person"),
        (("person",), "person"),
    ],
)
def test_background_may_come_first_last_or_not_at_all(classes, target):
    network = seeded(Net(classes=len(classes)))
    colours = ("red", "green", "blue")
    adapter = segxai.wrap(network, channels=colours, classes=classes, shape=SHAPE)
    assert adapter.classes[adapter.criteria.class_index] == target
    image = image_of((3, *SHAPE))
    task = prepare(adapter, case_of(image), Options.of(method="gradient", device="cpu"))
    findings = survey(task)
    with torch.no_grad():
        logits = network(image)[0]
    index = classes.index(target)
    where = logits[0] > 0 if len(classes) == 1 else logits.argmax(dim=0) == index
    found = np.zeros(SHAPE, dtype=bool)
    for instance in findings.instances:
        assert instance.class_index == index
        found |= instance.mask(SHAPE)
    assert (found == where.numpy()).all()


# ------------------------------------------------------------------------------- what is returned


@dataclass
class ModelOutput(OrderedDict):
    """As that of transformers."""

    loss: Tensor | None = None
    logits: Tensor | None = None

    def __post_init__(self):
        self["logits"] = self.logits


class Returning(Net):
    """Logits in a container."""

    def __init__(self, pack, **more):
        super().__init__(**more)
        self.pack = pack

    def forward(self, image):
        return self.pack(super().forward(image))


def coarser(logits, step):
    return functional.avg_pool2d(logits, step)


CONTAINERS = {
    "tuple": lambda logits: (logits, logits.mean()),
    "list": lambda logits: [logits],
    "torchvision": lambda logits: OrderedDict(out=logits, aux=-logits),
    "transformers": lambda logits: ModelOutput(logits=logits),
    "another name": lambda logits: {"seg": logits, "score": logits.mean(dim=(2, 3))},
    "deep supervision": lambda logits: [logits, coarser(logits, 2), coarser(logits, 4)],
    "coarse first": lambda logits: (coarser(logits, 4), coarser(logits, 2), logits),
    "nested": lambda logits: {"heads": [(coarser(logits, 2), logits)]},
}


@pytest.mark.filterwarnings("ignore:the network returns [23] tensors")  # see test_inspection
@pytest.mark.parametrize("kind", CONTAINERS)
def test_logits_in_a_container(kind):
    plain = seeded(Net())
    network = Returning(CONTAINERS[kind])
    network.load_state_dict(plain.state_dict())
    check(network, plain)


@pytest.mark.filterwarnings(
    "ignore:Grad-CAM", "ignore:the layer is", "ignore:the network returns [23] tensors"
)
@pytest.mark.parametrize("kind", ["tuple", "torchvision", "deep supervision"])
def test_grad_cam_of_logits_in_a_container(kind):
    plain = seeded(Net())
    network = Returning(CONTAINERS[kind])
    network.load_state_dict(plain.state_dict())
    maps = [
        segxai.explain(one, image_of((3, *SHAPE))[0], DOMAIN, method="gradcam++")
        for one in (plain, network)
    ]
    assert maps[0].attrs["layer"] == maps[1].attrs["layer"] == "first"
    assert literal.worst(maps[1].values, maps[0].values) < 1e-5


# ---------------------------------------------------------------------------------- input scales


@pytest.mark.parametrize("scale", [0.02, 1.0, 255.0, 1000.0])
@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_maps_scale_exactly_with_the_input(scale, method):
    """A network that divides by the scale of its input gives the same map, over that scale."""

    class Scaled(Net):
        def forward(self, image):
            return super().forward(image / scale)

    plain, image = seeded(Net()), image_of((3, *SHAPE))
    network = Scaled()
    network.load_state_dict(plain.state_dict())
    options = {"method": method, **({"samples": 4} if method == "smoothgrad" else {})}
    found = segxai.explain(network, scale * image[0], DOMAIN, **options)
    unit = segxai.explain(plain, image[0], DOMAIN, **options)
    assert literal.worst(scale * found.values, unit.values) < 1e-5


def test_noise_is_measured_where_something_is_seen(tmp_path):
    """Background that is not 0 after normalisation changes no noise level."""
    from tests.commandline import write_nifti

    data = np.zeros((10, 10, 10), dtype=np.float32)
    data[2:8, 2:8, 2:8] = np.random.default_rng(0).uniform(800, 900, (6, 6, 6))
    write_nifti(tmp_path / "a.nii.gz", data)
    network = nn.Conv3d(1, 2, 3, padding=1)
    adapter = segxai.wrap(
        network, channels=["ct"], classes=["rest", "lesion"], normalise="mean:850;std:10"
    )
    case = adapter.read({"ct": tmp_path / "a.nii.gz"})
    assert case.image[0, 0, 0, 0] == -85
    (level,) = noise_levels(case.image, case.foreground, 1.0)
    assert level == pytest.approx(np.ptp(data[data > 0]) / 10, rel=1e-4)


def test_channels_in_the_order_blue_green_red(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    network = seeded(Net())
    adapter = segxai.wrap(network, channels=("blue", "green", "red"), shape=SHAPE)
    case = adapter.read({"image": tmp_path / "photo.png"})
    np.testing.assert_array_equal(case.image, np.moveaxis(pixels[..., ::-1], -1, 0))
    image = torch.from_numpy(case.image)[None]
    check(network, image=image)


# ------------------------------------------------------------------------------------- internals


class InPlace(Net):
    """Activations in place: between the layers, and as the very first, on the input itself."""

    def forward(self, image):
        image = functional.leaky_relu_(image, 0.3)
        return self.last(functional.relu_(self.first(image)))


def test_activations_in_place():
    network = seeded(InPlace())

    def pure(image):
        return network(image.clone())

    image = image_of((3, *SHAPE))
    before = image.clone()
    check(network, pure, image=image)
    assert torch.equal(image, before)


def test_activations_in_place_do_not_change_the_case():
    network, image = seeded(InPlace()), image_of((3, *SHAPE))
    before, case = image.clone(), case_of(image)
    adapter = segxai.wrap(network, channels=case.channels, shape=SHAPE)
    task = prepare(adapter, case, Options.of(method="gradient", device="cpu"))
    first, second = (survey(task).segmentation.logits for _ in range(2))
    np.testing.assert_array_equal(case.image, before[0].numpy())
    np.testing.assert_array_equal(first, second)


class NamedModules(Net):
    """An attribute that hides the method `modules` of every module."""

    def __init__(self):
        super().__init__()
        self.modules = [self.first, self.last]

    def forward(self, image):
        first, last = self.modules
        return last(functional.gelu(first(image)))


@pytest.mark.parametrize("depth", [0, 1])
def test_an_attribute_named_modules(depth):
    network = seeded(NamedModules())
    network = network if depth == 0 else nn.Sequential(network)
    check(network)
    colours = ("red", "green", "blue")
    assert len(segxai.wrap(network, channels=colours, shape=SHAPE).classes) == 3


class Backwards(nn.Module):
    """Registered from the last layer to the first, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(5, 3, 1)
        self.unused = nn.Conv2d(3, 40, 3, padding=1)
        self.middle = nn.Conv2d(6, 5, 3, padding=1)
        self.first = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, image):
        return self.last(torch.relu(self.middle(torch.relu(self.first(image)))))


@pytest.mark.filterwarnings("ignore:Grad-CAM", "ignore:the layer is")
def test_layers_registered_in_another_order_than_they_run():
    network = seeded(Backwards())
    check(network)
    with torch.no_grad():  # few suspect coefficients in both layers
        network.first.bias += 3
        network.middle.bias += 3
    found = segxai.explain(
        network, image_of((3, *SHAPE))[0], DOMAIN, method="gradcam++", class_index=1
    )
    assert found.attrs["layer"] == "middle"


@pytest.mark.parametrize("wants", [False, True])
def test_parameters_that_do_or_do_not_require_gradients(wants):
    network = seeded(Net()).requires_grad_(wants)
    check(network)
    assert {one.requires_grad for one in network.parameters()} == {wants}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_is_brought_to_float32_and_says_so(kind):
    network, image = seeded(Net()).to(kind), image_of((3, *SHAPE))
    name = str(kind).removeprefix("torch.")
    adapter = segxai.wrap(network, channels=("red", "green", "blue"), shape=SHAPE)
    assert any(f"{name}: computed in float32" in note for note in adapter.notes)
    assert {one.dtype for one in network.parameters()} == {torch.float32}
    task = prepare(adapter, case_of(image), Options.of(method="gradient", device="cpu"))
    assert survey(task).segmentation.logits.dtype == np.float32
    check(network)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_explain_takes_a_model_in_half_precision_and_leaves_it_so(kind):
    network, image = seeded(Net()).to(kind), image_of((3, *SHAPE))
    with pytest.warns(UserWarning, match="computed in float32"):
        found = segxai.explain(network, image[0], DOMAIN, method="gradient")
    assert {one.dtype for one in network.parameters()} == {kind}
    assert literal.worst(found.values, wanted(network.float(), image)) < 1e-5


class Divided(nn.Module):
    """Takes sizes that are multiples of 32 only, and says so by an assertion, as many do."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 32, stride=32)
        self.last = nn.ConvTranspose2d(6, 2, 32, stride=32)

    def forward(self, image):
        assert all(n % 32 == 0 for n in image.shape[2:]), "sizes must be multiples of 32"
        return self.last(torch.tanh(self.first(image)))


def test_sizes_that_must_divide_by_32():
    network, shape = seeded(Divided()), (40, 70)
    image = image_of((3, *shape))
    adapter = segxai.wrap(network, channels=("red", "green", "blue"), shape=shape)
    assert adapter.predict.divisor == 32
    assert any("multiples of 32" in note for note in adapter.notes)
    task = prepare(adapter, case_of(image), Options.of(method="gradient", device="cpu"))

    def padded(image):
        return network(functional.pad(image, (0, 26, 0, 24)))[..., :40, :70]

    with torch.no_grad():
        assert literal.worst(task.predictor(image), padded(image)) < 1e-6
    instance = segxai.Instance(1, np.array([(20, 33), (21, 33)]))
    (run,) = task.runs
    found = task.method.attribute(task.predictor, image, instance, run.options, run.context)
    expected = literal.signed_max(literal.rows(padded, image, instance.voxels))
    assert literal.worst(found.on_grid(shape), expected) < 1e-5


def test_a_window_that_does_not_divide_names_one_that_does():
    with pytest.raises(SegxaiError, match=r"40,70; .*64,96"):
        segxai.wrap(seeded(Divided()), channels=("red", "green", "blue"), window=(40, 70))


# ---------------------------------------------------------------------------- channels last, 2.5D


class ChannelsLast(Net):
    """Wants (batch, y, x, channel) and returns (batch, y, x, class)."""

    def forward(self, image):
        return super().forward(image.movedim(-1, 1)).movedim(1, -1)


class ChannelsFirst(nn.Module):
    """The same for segxai."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image.movedim(1, -1)).movedim(-1, 1)


def test_a_network_whose_channels_come_last():
    network = seeded(ChannelsLast())
    check(ChannelsFirst(network), seeded(Net()))


# ---------------------------------------------------------------------- what cannot be explained


class NoGrad(Net):
    @torch.no_grad()
    def forward(self, image):
        return super().forward(image)


class Labels(Net):
    def forward(self, image):
        return super().forward(image).argmax(dim=1, keepdim=True)


class Broken(Net):
    def forward(self, image):
        return {"logits": None}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NoGrad, r"has no gradient with respect to the image: .*torch\.no_grad"),
        (Labels, r"returns labels \(torch\.int64\); segxai needs the logits"),
        (Broken, r"the network returns a dict with logits; segxai needs a tensor"),
    ],
)
def test_a_network_without_gradients_is_noticed_at_once(network, message):
    with pytest.raises(SegxaiError, match=message) as error:
        segxai.wrap(network(), channels=("red", "green", "blue"), shape=SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", [NoGrad, Labels])
def test_explain_says_that_there_are_no_gradients(network):
    with pytest.raises(SegxaiError, match="gradient|logits"):
        segxai.explain(seeded(network()), image_of((3, *SHAPE))[0], DOMAIN, method="gradient")


def test_nothing_here_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(seeded(Net()))
