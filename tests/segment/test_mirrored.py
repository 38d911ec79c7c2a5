"""The mean over mirror images, as one network."""

import torch
from torch import nn

from segxai.segment.mirrored import Mirrored
from tests.literal import seeded
from tests.networks import image_of


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image):
        return self.first(image), self.second(image)


def test_it_averages_the_logits_of_every_mirror_image():
    network, image = seeded(Heads()), image_of((1, 6, 5))
    for output in (0, 1):
        found = Mirrored(network, (0, 1), output)(image)
        total = 0
        for flip in ((), (2,), (3,), (2, 3)):
            total = total + torch.flip(network(torch.flip(image, flip))[output], flip)
        torch.testing.assert_close(found, total / 4)


def test_the_mean_of_its_members_is_the_whole():
    whole, image = Mirrored(seeded(Heads()), (0, 1), 1), image_of((1, 6, 5))
    members = [member(image) for member in whole.members()]
    assert len(members) == 4
    torch.testing.assert_close(torch.stack(members).mean(dim=0), whole(image))
    assert not torch.allclose(members[0], members[1], atol=1e-3)
