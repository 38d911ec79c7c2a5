"""Small predictors with an instance each, for every method of the plugin."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from segxai import (
    Case,
    Context,
    Instance,
    InstanceScore,
    MethodOptions,
    NoiseOptions,
    Predictor,
    Readout,
    load_method,
    sliding_window,
    whole_image,
)
from segxai.methods.own_options import own_options
from tests.literal import seeded
from tests.networks import block, coarse_network, image_of, net2d, small_unet


@dataclass(frozen=True)
class Subject:
    predictor: Predictor
    image: torch.Tensor
    instance: Instance
    case: Case

    def score(self, score="logit", contrast=None):
        return InstanceScore(self.predictor, self.instance, score, contrast=contrast)

    def explain(
        self, name, *, score="logit", seed=0, samples=2, layer=None, context=None, case=None, **own
    ):
        """The map of a method on the image's grid, and the attribution itself."""
        method = load_method(name)
        noise = NoiseOptions(samples=samples)
        options = MethodOptions(method=name, score=(score,), layer=layer, seed=seed, noise=noise)
        context = Context(
            own=own_options(method, own),
            case=case or self.case,
            instances=(self.instance,),
            **(context or {}),
        )
        found = method.attribute(self.predictor, self.image, self.instance, options, context)
        return torch.from_numpy(found.on_grid(tuple(self.image.shape[2:]))), found


def _subject(predictor, image, instance):
    return Subject(predictor, image, instance, Case.of_array(image[0].numpy()))


def rectified():
    """Two channels in 2D to two classes, with ReLUs that are modules."""
    layers = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1), nn.ReLU()]
    return seeded(nn.Sequential(*layers, nn.Conv2d(4, 2, 1)))


def flat(network=None):
    """Overlapping windows in 2D, of which two do not see the instance."""
    shape = (20, 14)
    layout = sliding_window(shape, (8, 8), 0.25)
    network = network or rectified()
    channels = network[0].in_channels if isinstance(network, nn.Sequential) else 3
    instance = block(shape, (2, 4), (3, 4), label=3)
    return _subject(Predictor(network, layout), image_of((channels, *shape)), instance)


def small():
    """A single window."""
    shape = (6, 7)
    layout, instance = whole_image(shape), block(shape, (2, 2), (2, 3))
    return _subject(Predictor(rectified(), layout), image_of((2, *shape)), instance)


def narrow():
    """Three windows in 2D, of which one does not see the instance."""
    shape = (18, 8)
    instance = block(shape, (5, 3), (3, 3), label=3)
    layout = sliding_window(shape, (8, 8), 0.25)
    return _subject(Predictor(rectified(), layout), image_of((2, *shape)), instance)


def solid():
    """Overlapping windows in 3D."""
    shape = (12, 8, 8)
    layout = sliding_window(shape, (8, 8, 8), 0.5)
    instance = block(shape, (3, 2, 3), (4, 3, 2))
    return _subject(Predictor(small_unet(), layout), image_of((2, *shape)), instance)


def read_out():
    """Coarse logits, read at a picture of another size, as those of queries and boxes."""
    size, shape = (9, 11), (16, 20)
    predictor = Predictor(
        coarse_network(),
        whole_image(shape),
        readout=Readout.linear((4, 5), size),
        activation="sigmoid",
    )
    return _subject(predictor, image_of((2, *shape)), block(size, (3, 4), (3, 3)))


def padded():
    """Windows larger than the image along one axis."""
    shape = (6, 14)
    instance = block(shape, (2, 4), (3, 4))
    layout = sliding_window(shape, (8, 8), 0.25)
    return _subject(Predictor(net2d(), layout), image_of((3, *shape)), instance)


SUBJECTS = {"flat": flat, "solid": solid, "read out": read_out, "padded": padded}


def fingerprint(network):
    """What a method must leave as it was: hooks, modes, gradients, weights."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    modes = [m.training for m in network.modules()]
    grads = [p.requires_grad for p in network.parameters()]
    weights = [value.numpy().copy() for value in network.state_dict().values()]
    return hooks, modes, grads, weights


def assert_same(network, before):
    after = fingerprint(network)
    assert after[:3] == before[:3]
    assert all(np.array_equal(a, b) for a, b in zip(after[3], before[3], strict=True))
