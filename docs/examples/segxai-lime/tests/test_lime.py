"""LIME finds what a linear network adds up, through windows, and leaves the model alone."""

import numpy as np
import pytest
import torch
from segxai_lime import LimeOptions, attribute, blocks_of
from torch import nn

from segxai import (
    Context,
    Instance,
    InstanceScore,
    MethodOptions,
    Predictor,
    SegxaiError,
    load_method,
    sliding_window,
    whole_image,
)

SHAPE = (8, 12)


def image():
    return torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(1))


def instance():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3:5, 4:7] = True
    return Instance.from_mask(mask)


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False), *layers).eval()


def explain(model, layout=None, context=None, seed=0, **own):
    predictor = Predictor(model, layout or whole_image(SHAPE))
    context = Context(own=LimeOptions(**{"side": 4, "ridge": 1e-9, **own}), **(context or {}))
    options = MethodOptions(method="lime", seed=seed)
    found = attribute(predictor, image(), instance(), options, context)
    return torch.from_numpy(found.on_grid(SHAPE)), found


@pytest.mark.parametrize("contrast", [None, "border", 0])
@pytest.mark.parametrize("layout", [whole_image(SHAPE), sliding_window(SHAPE, (8, 8), 0.5)])
def test_of_a_linear_network_it_is_what_each_block_adds(layout, contrast):
    model = network()
    found, _ = explain(model, layout, {"contrast": contrast})
    score = InstanceScore(Predictor(model, layout), instance(), contrast=contrast)
    blocks = blocks_of(SHAPE, 4)
    with torch.no_grad():
        for block in range(6):
            wanted = float(score(image() * (blocks == block)))
            assert found[:, blocks == block].numpy() == pytest.approx(wanted, abs=1e-4)


def test_blocks_are_numbered_in_c_order():
    assert blocks_of((3, 5), 2).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert int(blocks_of((4, 4, 4), 2).max()) == 7


def test_it_is_repeated_by_its_seed_and_counts_all_of_its_work():
    model, ticks = network(nn.ReLU()), []
    maps = [explain(model, seed=seed, copies=20)[0] for seed in (0, 0, 1)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    explain(model, context={"tick": ticks.append}, copies=20)
    assert sum(ticks) == pytest.approx(1)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_came(fails):
    model = network(nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    if fails:
        model[1].weight.data = torch.ones(3)
        before["1.weight"] = torch.ones(3)
        with pytest.raises(SegxaiError, match="the network fails"):
            explain(model)
    else:
        explain(model)
    assert model.training
    assert all(one.requires_grad for one in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_makes_no_sense_is_one_line():
    with pytest.raises(SegxaiError, match="side=0, copies=200: give 1 or more of each"):
        LimeOptions(side=0)


def test_segxai_finds_it_by_name():
    assert load_method("lime").options is LimeOptions
    assert load_method("lime").takes_contrast
    assert load_method("lime").random
