"""A score near an image is that of the whole prediction, from the windows that see the change."""

import pytest
import torch

from segxai.rows.instance_score import InstanceScore
from segxai.rows.perturbed_score import PerturbedScore
from tests.captum_plugin.subjects import SUBJECTS, flat

# Voxels of the first and second axis that are changed, in one channel or in all.
CHANGES = {
    "nothing": ((0, 0), (0, 0)),
    "a voxel": ((3, 4), (5, 6)),
    "a patch": ((2, 6), (3, 9)),
    "far away": ((-1, None), (-1, None)),
    "everything": ((0, None), (0, None)),
}


@pytest.mark.parametrize("contrast", [None, "border", 0])
@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_it_is_the_score_of_the_whole_prediction(name, score, contrast):
    subject = SUBJECTS[name]()
    whole = InstanceScore(subject.predictor, subject.instance, score, contrast=contrast)
    near = PerturbedScore(whole, subject.image)
    images = []
    for number, ((a, b), (c, d)) in enumerate(CHANGES.values()):
        images.append(subject.image.clone())
        channel = slice(None) if number % 2 else slice(0, 1)
        images[-1][:, channel, a:b, c:d] -= 1.5
    images = torch.cat(images)
    with torch.no_grad():
        wanted = whole(images)
    assert float(near.clean) == pytest.approx(float(wanted[0]), abs=1e-6)
    assert (near(images) - wanted).abs().max() <= 1e-6 * wanted.abs().max() + 1e-7
    assert len(wanted.unique()) > 2


def test_only_windows_that_see_the_instance_and_the_change_are_run():
    subject = flat()
    windows = subject.predictor.layout.windows
    near = PerturbedScore(subject.score(), subject.image)
    seeing = [one for one in windows if one.contains(subject.instance.voxels).any()]
    assert 1 < len(seeing) < len(windows)
    for place in ((0, 0), (3, 5), (7, 7), (19, 13)):
        image, before = subject.image.clone(), near.windows_run
        image[0, 1, *place] += 1
        near(image)
        wanted = sum(
            all(a <= v < b for a, v, b in zip(one.start, place, one.stop, strict=True))
            for one in seeing
        )
        assert near.windows_run - before == wanted
