"""The Swin UNETR plugin: weights in half precision, checkpoints of others, exact rows."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segxai_ms_lesion.recipe.evaluate import scored, stored_threshold
from segxai_swin_unetr import network

from segxai.errors import SegxaiError
from segxai.plugins.registry import load_adapter
from segxai.segment.inference_mode import frozen
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from tests import literal
from tests.networks import image_of
from tests.rows.whole_grid import in_order, rows_on_grid


def test_the_file_is_small_and_in_half_precision():
    assert network.weights_file().stat().st_size < 8_000_000
    state = load_file(network.weights_file())
    assert {value.dtype for value in state.values()} == {torch.float16}
    loaded = network.load_swin_unetr().state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in state.items())


def test_the_threshold_of_the_weights_is_the_adapters():
    assert stored_threshold(network.weights_file()) == load_adapter("swin_unetr").criteria.threshold


def test_the_network_finds_most_lesions_of_the_embedded_case():
    adapter = load_adapter("swin_unetr")
    assert scored(adapter, adapter.embedded_case()).matching.recall >= 0.7


@pytest.mark.parametrize("sizes", [(12, 7, (2, 2, 2, 2)), (24, 3, (2, 1, 2, 1))])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_brings_its_own_sizes(tmp_path, sizes, prefix):
    torch.manual_seed(0)
    wanted = network.swin_unetr(*sizes).state_dict()
    torch.save({"state_dict": {f"{prefix}{n}": v for n, v in wanted.items()}}, tmp_path / "w.pt")
    found = network.load_swin_unetr(tmp_path / "w.pt").state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert load_adapter("swin_unetr", tmp_path / "w.pt").predict.size == (96, 96, 96)


MISFITS = {
    "another network": ({"conv.weight": torch.zeros(3)}, "does not fit the Swin UNETR: .* absent"),
    "no biases": (
        {network.KIND.first: torch.zeros(12, 2, 2, 2, 2)},
        "relative_position_bias_table' is absent",
    ),
    "a number": ({network.KIND.first: torch.zeros(12)}, "should have 5 axes"),
}


@pytest.mark.parametrize(("content", "message"), MISFITS.values(), ids=MISFITS)
def test_a_checkpoint_that_does_not_fit_is_a_mistake_of_one_line(tmp_path, content, message):
    save_file(content, tmp_path / "w.safetensors")
    with pytest.raises(SegxaiError, match=message) as caught:
        network.load_swin_unetr(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_rows_equal_a_literal_loop():
    model, image = network.load_swin_unetr(), image_of((2, 64, 64, 64))
    voxels = np.array([[30, 31, 33], [30, 40, 33]])
    with frozen(model):
        wanted = literal.rows(model, image, voxels)
    found = rows_on_grid(Predictor(model, whole_image((64, 64, 64))), image, voxels)
    assert literal.worst(in_order(found), in_order(wanted)) <= 1e-5
