"""The embedded coins: found, explained one by one, each map on its own coin."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import segxai_natural_image
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import ndimage
from segxai_natural_image import coins
from segxai_natural_image.coin_network import load_coin_network, weights_file
from segxai_natural_image.recipe.augmentation import patches
from segxai_natural_image.recipe.evaluation import score
from segxai_natural_image.recipe.labels import draw_coins
from segxai_natural_image.recipe.train import TRAINED_COLUMNS, train
from skimage import data
from torch.nn import functional

from segxai.errors import SegxaiError
from segxai.load.masks import load_mask
from segxai.pipeline import survey
from segxai.plugins.registry import load_adapter, load_method
from segxai.run.attribute import attribute
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.store.hdf5 import open_result
from segxai.store.schema import group
from segxai.testing import check_adapter
from tests import literal
from tests.commandline import segxai

SHAPE = (303, 384)
HELD_OUT = (5, 6, 11, 12, 17, 18, 23, 24)
NEAR = 8  # pixels around a coin in which its border shows
CARD = Path(segxai_natural_image.__file__).parent / "weights" / "MODEL_CARD.md"


@pytest.fixture(scope="module")
def adapter():
    return load_adapter("natural_image")


@pytest.fixture(scope="module")
def case(adapter):
    return adapter.embedded_case()


def test_black_is_what_a_black_photograph_becomes(case):
    assert case.black == pytest.approx([-coins.MEAN / coins.STANDARD_DEVIATION])


def found_in(adapter, case, **asked):
    task = prepare(adapter, case, Options.of(device="cpu", **asked))
    return task, survey(task)


def map_on_grid(task, instance, cost):
    (found,) = attribute(task, task.groups[0], instance, cost)
    return found.on_grid(task.case.grid.shape)


# ----------------------------------------------------------------------------------------- the case


def test_the_case_is_the_photograph(case):
    photograph = data.coins()
    assert case.image.shape == (1, *SHAPE)
    np.testing.assert_allclose(52 * case.image[0] + 99, photograph, atol=1e-3)
    np.testing.assert_array_equal(case.picture[..., 2], photograph)
    assert (case.channels, case.input_unit) == (("grey",), "52 grey values")
    assert case.grid.shape == case.domain_grid.shape == SHAPE
    assert case.notes == case.warnings == ()


def test_the_reference_is_what_the_recipe_draws(case):
    labels = draw_coins(data.coins())
    np.testing.assert_array_equal(np.asarray(Image.open(coins.DRAWN)), labels)
    np.testing.assert_array_equal(case.reference, labels > 0)
    assert labels.max() == 24
    first = [np.nonzero(labels == n)[1].min() for n in range(1, 25)]
    held_out = tuple(n for n, x in enumerate(first, start=1) if x >= TRAINED_COLUMNS)
    assert held_out == HELD_OUT


def test_every_coin_is_found(adapter, case):
    _, findings = found_in(adapter, case, rows=1)
    outcomes = [one.outcome for one in findings.instances]
    assert outcomes.count("TP") == 24
    assert outcomes.count("FN") == 0
    assert outcomes.count("FP") <= 1
    labels = draw_coins(data.coins())
    seen = [np.unique(labels[tuple(one.voxels.T)]) for one in findings.instances]
    assert sorted(int(one.max()) for one in seen if one.max()) == list(range(1, 25))


def test_the_model_card_has_the_scores():
    labels = draw_coins(data.coins())
    scores = score(load_coin_network(), data.coins(), labels, TRAINED_COLUMNS)
    assert tuple(scores["held out"]["coins"]) == HELD_OUT
    card = CARD.read_text(encoding="utf-8")
    for part, found in scores.items():
        wanted = [found[name] for name in ("dice", "found", "mean_overlap", "smallest_overlap")]
        (line,) = re.findall(rf"^\| {part} .*$", card, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert [float(cell) for cell in cells[2:]] == pytest.approx(wanted, abs=2e-3)


def test_the_recipe_trains():
    planes = torch.from_numpy(np.stack([data.coins() / 255, draw_coins(data.coins()) > 0]))
    network = train(planes.float()[..., :TRAINED_COLUMNS], steps=30, seed=0)
    found = score(network, data.coins(), draw_coins(data.coins()), TRAINED_COLUMNS)
    assert found["held out"]["found"] >= 7
    assert found["held out"]["dice"] > 0.85


def test_patches_keep_coins_where_they_are_bright():
    planes = torch.from_numpy(np.stack([data.coins() / 255, draw_coins(data.coins()) > 0])).float()
    found = patches(planes, 12, torch.Generator().manual_seed(0))
    assert found.shape == (12, 2, 128, 128)
    assert 0 <= found.min() <= found.max() <= 1
    again = patches(planes, 12, torch.Generator().manual_seed(0))
    assert (found == again).all()
    inside = [grey[coin > 0].mean() > grey[coin == 0].mean() for grey, coin in found]
    assert sum(inside) >= 11  # strong slopes of the light may hide one


# -------------------------------------------------------------------------------------- explanation


def test_a_row_is_that_of_the_interpolated_logit(adapter, case):
    task, findings = found_in(adapter, case, method="gradient", labels=(20,), rows=3)
    (instance,) = findings.explained
    network = load_coin_network()

    def logits(image):
        padded = functional.pad(image, [0, 0, 0, 1])
        fine = functional.interpolate(network(padded), scale_factor=4, mode="bilinear")
        return fine[:, :, :303]

    image = torch.from_numpy(case.image)[None]
    rows = literal.rows(logits, image, instance.row_voxels)
    found = map_on_grid(task, instance, findings.costs[0])
    assert literal.worst(found, literal.signed_max(rows)) < 1e-5
    assert findings.costs[0].engine == "windowed"


def masses(found, own, coins_mask):
    """Shares of a map's mass: near one coin, and on the others."""
    weight = abs(found[0])
    near = ndimage.distance_transform_edt(~own) <= NEAR
    return weight[near].sum() / weight.sum(), weight[coins_mask & ~own].sum() / weight.sum()


def test_the_map_of_a_coin_leaves_the_others_alone_and_that_of_the_class_does_not(adapter, case):
    task, findings = found_in(adapter, case, samples=2)
    everything = np.zeros(SHAPE, dtype=bool)
    for instance in findings.instances:
        everything |= instance.mask(SHAPE)
    baseline, whole = found_in(adapter, case, samples=2, method="class_smoothgrad")
    of_class = map_on_grid(baseline, whole.explained[0], whole.costs[0])
    for instance in findings.explained[2:24:9]:
        own = instance.mask(SHAPE)
        near, others = masses(map_on_grid(task, instance, findings.costs[0]), own, everything)
        assert near > 0.85
        assert others < 0.03
        near, others = masses(of_class, own, everything)
        assert near < 0.1
        assert others > 0.5


def test_the_embedded_run(folder):
    found = segxai("run", "--plugin", "natural_image", "--samples", "2", "--instances", "3,20")
    assert found.status == 0, found
    assert "2 of 25 instances" in found.err
    with open_result("natural_image_embedded.h5") as tree:
        assert tree["/segmentation"]["labels"].shape == SHAPE
        provenance = json.loads(tree.attrs["provenance"])
    assert provenance["weights"]["name"] == "coins.safetensors"
    assert Path("natural_image_embedded.png").stat().st_size > 20_000


def test_the_embedded_case_takes_few_samples(adapter):
    assert adapter.embedded_options == {"samples": 8}
    assert load_method("smoothgrad").smooths


def test_the_adapter_keeps_its_promises(adapter):
    broken = [one for one in check_adapter(adapter) if not one.holds]
    assert not broken


def test_coins_need_neither_transformers_nor_torchvision(folder):
    """What the embedded case imports, in a process where neither is installed."""
    code = (
        "import sys; sys.modules['transformers'] = sys.modules['torchvision'] = None\n"
        "from segxai.cli import main\n"
        "sys.argv = 'segxai run --plugin natural_image --instances 20 --rows 2 --samples 1'.split()"
        "\nmain()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "picture: natural_image_embedded.png" in done.stdout
    assert "area" in done.stdout
    assert "mm" not in done.stdout  # a photograph has no scale
    with open_result("natural_image_embedded.h5") as tree:
        coins = group(tree, "instances").load()
    assert coins["area_px"].values.tolist() == coins["voxels"].values.tolist()
    assert coins["centroid_px"].attrs["units"] == "px"


# ------------------------------------------------------------------------------------- user's files


def photo(name, pixels):
    Image.fromarray(pixels).save(name)
    return Path(name)


def test_a_photograph_in_colour_becomes_grey(adapter, folder):
    grey = data.coins()[:120, :140]
    rgb = np.stack([grey, grey, grey], axis=-1)
    rgb[..., 0] //= 2
    case = adapter.read({"image": photo("a.png", rgb)})
    wanted = (rgb @ [0.299, 0.587, 0.114] - 99) / 52
    np.testing.assert_allclose(case.image[0], wanted, atol=1e-4)
    assert case.notes == ("colours became grey: 0.299 red + 0.587 green + 0.114 blue",)
    assert (case.name, case.sources[0].name) == ("a", "a.png")


def test_a_picture_of_one_colour_is_warned_of(adapter, folder):
    case = adapter.read({"image": photo("a.png", np.full((9, 9), 7, dtype=np.uint8))})
    assert case.warnings == ("the picture has one colour everywhere",)


def test_masks_must_have_the_pictures_size(adapter, folder):
    image = photo("a.png", data.coins()[:60, :80])
    photo("mask.png", np.eye(60, 70, dtype=np.uint8))
    words = r"reference mask.png has 60 x 70 pixels, the picture 60 x 80 \(rows x columns\)"
    with pytest.raises(SegxaiError, match=words):
        adapter.read({"image": image}, Path("mask.png"))
    photo("mask.png", 9 * np.eye(60, 80, dtype=np.uint8))
    case = adapter.read({"image": image}, Path("mask.png"))
    assert np.argwhere(case.reference).tolist() == [[n, n] for n in range(60)]
    assert [one.role for one in case.sources] == ["image", "reference"]
    assert load_mask(Path("mask.png"), case).max() == 9


def test_coins_that_were_trained_again(adapter, folder):
    state = load_file(weights_file())
    state["logits.bias"] += 1
    save_file(state, "mine.safetensors")
    mine = load_adapter("natural_image", Path("mine.safetensors"))
    assert mine.classes == ("background", "coin")
    network = mine.load_network()
    assert torch.equal(network.logits.bias, state["logits.bias"])
    assert mine.weights == Path("mine.safetensors")
