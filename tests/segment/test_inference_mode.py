"""A network is frozen while it is looked at, and no longer."""

import pytest

from segxai.segment.inference_mode import frozen
from tests.networks import net2d


def test_frozen_gives_the_network_back_as_it_was():
    network = net2d().train()
    network.norm.eval()
    network.last.weight.requires_grad_(False)
    with frozen(network):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
    with pytest.raises(KeyError), frozen(network):
        raise KeyError
    assert network.training
    assert not network.norm.training
    frozen_ones = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen_ones == ["last.weight"]
