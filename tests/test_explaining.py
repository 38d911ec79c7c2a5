"""The Python door: any model, in one call."""

import numpy as np
import pytest
import torch

import segxai
from segxai.errors import SegxaiError
from tests import literal
from tests.networks import image_of, mask_of, net2d, small_unet


def test_it_explains_2d_and_3d_with_dims_and_the_images_shape():
    flat = segxai.explain(
        net2d(), image_of((3, 24, 20))[0], mask_of((24, 20), (9, 8), (3, 2)), samples=2
    )
    assert (flat.dims, flat.shape) == (("channel", "y", "x"), (3, 24, 20))
    deep = segxai.explain(
        small_unet(),
        image_of((2, 16, 16, 16))[0].numpy(),
        torch.from_numpy(mask_of((16, 16, 16), (7, 8, 6), (2, 1, 2))),
        samples=2,
        aggregator="mean",
    )
    assert (deep.dims, deep.shape) == (("channel", "x", "y", "z"), (2, 16, 16, 16))
    assert deep.coords["standard_error"].shape == deep.shape


@pytest.mark.filterwarnings("ignore:Grad-CAM")
def test_cam_methods_return_one_map():
    found = segxai.explain(
        net2d(),
        image_of((3, 24, 20))[0],
        mask_of((24, 20), (9, 8), (3, 2)),
        method="gradcam++",
        layer="first",
    )
    assert (found.dims, found.shape) == (("y", "x"), (24, 20))
    assert float(found.min()) >= 0
    assert found.attrs["layer"] == "first"
    assert found.attrs["units"] == "arbitrary"


def test_what_is_in_doubt_is_kept_with_the_map(tmp_path):
    image, mask = image_of((3, 24, 20))[0], mask_of((24, 20), (9, 8), (3, 2))
    sure = segxai.explain(net2d(), image, mask, method="gradient")
    assert sure.attrs["warnings"] == []
    with pytest.warns(segxai.SegxaiWarning, match="computed in float32") as shown:
        found = segxai.explain(net2d().half(), image, mask, method="gradient")
    assert found.attrs["warnings"] == [str(one.message) for one in shown]
    for one in (sure, found):
        one.to_netcdf(tmp_path / "map.nc", engine="h5netcdf")


def test_the_gradient_method_equals_the_literal_loop():
    model, image = net2d(), image_of((3, 24, 20))
    mask = mask_of((24, 20), (9, 8), (3, 2))
    rows = literal.rows(model, image, np.argwhere(mask), class_index=2)
    found = segxai.explain(
        model, image[0], mask, class_index=2, method="gradient", aggregator="mean"
    )
    assert literal.worst(found.values, literal.mean(rows)) < 1e-5


def test_a_window_explains_the_blended_prediction():
    model, image = net2d(), image_of((3, 40, 20))
    mask = mask_of((40, 20), (13, 8), (2, 2))
    whole = segxai.explain(model, image[0], mask, method="gradient")
    blended = segxai.explain(model, image[0], mask, method="gradient", window=(16, 16), overlap=0.5)
    assert blended.shape == whole.shape
    assert np.abs(blended - whole).max() > 1e-4


def test_the_seed_and_the_noise_matter_and_the_batch_does_not():
    model, image = net2d(), image_of((3, 24, 20))[0]
    mask = mask_of((24, 20), (9, 8), (3, 2))

    def peak(**more):
        return segxai.explain(model, image, mask, samples=3, **more).values

    first = peak()
    assert np.array_equal(first, peak())
    assert literal.worst(peak(batch=6), first) < 1e-5
    assert not np.allclose(first, peak(seed=1))
    assert not np.allclose(first, peak(noise=0.2))
    assert not np.allclose(first, peak(noise_unit="absolute"))


def test_a_model_in_double_precision_is_explained_in_it():
    model, image = net2d(), image_of((3, 24, 20))
    mask = mask_of((24, 20), (9, 8), (3, 2))
    exact = segxai.explain(model.double(), image[0].double(), mask, method="gradient")
    assert exact.dtype == np.float64
    assert literal.worst(segxai.explain(net2d(), image[0], mask, method="gradient"), exact) < 1e-5


def test_a_model_with_one_logit():
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    image, mask = image_of((1, 12, 12))[0], mask_of((12, 12), (5, 5), (1, 1))
    found = segxai.explain(model, image, mask, class_index=0, method="gradient")
    assert np.abs(found.values[0, 4:7, 4:7] - model.weight[0, 0].detach().numpy()).max() < 1e-6


def test_the_settings_travel_with_the_map():
    found = segxai.explain(
        net2d(), image_of((3, 24, 20))[0], mask_of((24, 20), (9, 8), (1, 2)), samples=2, seed=5
    )
    assert found.attrs["method"] == "smoothgrad"
    assert found.attrs["aggregator"] == "signed_max"
    assert found.attrs["samples"] == 2
    assert found.attrs["rows"] == 2
    assert found.attrs["seed"] == 5
    assert found.attrs["units"] == "logit per input unit"
    assert len(found.attrs["noise_levels"]) == 3


IMAGE, MASK = np.ones((3, 24, 20), dtype=np.float32), np.ones((24, 20), dtype=bool)


@pytest.mark.parametrize(
    ("image", "mask", "options", "message"),
    [
        (IMAGE[None, None], MASK, {}, "without a batch axis"),
        (IMAGE, MASK[:5], {}, r"give booleans of shape \(24, 20\)"),
        (IMAGE, MASK.astype(float), {}, "type float64"),
        (IMAGE, ~MASK, {}, "the mask is empty"),
        (IMAGE * np.nan, MASK, {}, "NaN or infinite"),
        (IMAGE[:2], MASK, {"method": "gradient"}, "fails on an input of shape"),
        (IMAGE, MASK, {"method": "smoothgard"}, "did you mean 'smoothgrad'"),
        (IMAGE, MASK, {"aggregator": "max"}, "unknown aggregator 'max'"),
        (IMAGE, MASK, {"score": "logits"}, "unknown score"),
        (IMAGE, MASK, {"samples": 0}, "samples=0"),
        (IMAGE, MASK, {"noise": -1}, "noise=-1"),
        (IMAGE, MASK, {"device": "cuda:77"}, "device 'cuda:77' is not available"),
        (IMAGE, MASK, {"window": (8, 8, 8)}, "a window of 3 axes"),
        (
            IMAGE,
            MASK,
            {"class_index": 3, "method": "gradient"},
            "no class 3: the network has 3 classes, 0 to 2",
        ),
        (IMAGE, MASK, {"method": "gradcam++", "layer": "frist"}, "did you mean 'first'"),
        (IMAGE, MASK, {"method": "gradcam++", "aggregator": "mean"}, "no rows to aggregate"),
        (IMAGE, MASK, {"layer": "first"}, "uses no layer"),
    ],
)
def test_mistakes_are_one_clear_line(image, mask, options, message):
    with pytest.raises(SegxaiError, match=message) as error:
        segxai.explain(net2d(), image, mask, **options)
    assert "\n" not in str(error.value)
