"""Methods of perturbation: Captum's own on the whole prediction, their laws, and RISE literally."""

from dataclasses import replace
from itertools import product

import captum.attr
import nibabel as nib
import numpy as np
import pytest
import torch
from segxai_captum.rise import Masks
from torch import nn

from segxai import Box, SegxaiError, Source
from tests import literal
from tests.captum_plugin.subjects import (
    SUBJECTS,
    assert_same,
    fingerprint,
    flat,
    narrow,
    small,
    solid,
)
from tests.networks import block

TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore:.*skimage.*:FutureWarning")


@pytest.fixture(params=SUBJECTS.values(), ids=SUBJECTS)
def subject(request):
    return request.param()


def seen(subject):
    """The box of the image that the instance depends on."""
    return subject.score().cropped(subject.image)[1]


class Around(nn.Module):
    """The score of the whole prediction, of images that are given by a part."""

    def __init__(self, subject, box):
        super().__init__()
        self.score, self.image, self.box = subject.score(), subject.image, box

    def forward(self, part):
        whole = self.image.clone()
        whole[self.box.index] = part
        return self.score(whole)


# ------------------------------------------------------------ Captum's own, on the whole prediction


@pytest.mark.parametrize(
    ("patch", "stride", "channels"),
    [("3", "patch", "apart"), ("4,3", "2", "together"), ("5,3", "3,2", "apart")],
)
def test_occlusion_is_captums(patch, stride, channels):
    subject = narrow()
    size = [int(n) for n in (patch.split(",") * 2)[:2]]
    step = size if stride == "patch" else [int(n) for n in (stride.split(",") * 2)[:2]]
    together = 2 if channels == "together" else 1
    found, attribution = subject.explain("occlusion", patch=patch, stride=stride, channels=channels)
    wanted = captum.attr.Occlusion(subject.score()).attribute(
        subject.image, (together, *size), (together, *step)
    )[0]
    assert literal.worst(found, wanted) < TOLERANCE
    assert attribution.facts["windows_run"] < attribution.facts["patches"] * 2


@pytest.mark.parametrize("stride", ["patch", "10,1"])
def test_a_large_patch_at_the_end_of_the_image(stride):
    """The last patch that starts on the image does not fit into the instance's window."""
    subject = narrow()
    subject = replace(subject, instance=block((18, 8), (15, 3), (2, 3)))
    assert seen(subject) == Box((10, 0), (8, 8))
    found, _ = subject.explain("occlusion", patch="10,3", stride=stride)
    step = (1, 10, 3) if stride == "patch" else (1, 10, 1)
    wanted = captum.attr.Occlusion(subject.score()).attribute(subject.image, (1, 10, 3), step)[0]
    assert literal.worst(found, wanted) < TOLERANCE


def test_occlusion_is_captums_in_every_kind_of_prediction(subject):
    axes = subject.image.ndim - 2
    found, attribution = subject.explain("occlusion", patch="5", channels="together")
    wanted = captum.attr.Occlusion(subject.score()).attribute(
        subject.image,
        (subject.image.shape[1], *(5,) * axes),
        (subject.image.shape[1], *(5,) * axes),
    )[0]
    assert literal.worst(found, wanted) < TOLERANCE
    assert attribution.unit == "score"


@pytest.mark.parametrize("name", ["feature_ablation", "kernel_shap"])
@pytest.mark.parametrize("channels", ["apart", "together"])
def test_region_methods_are_captums(subject, name, channels, monkeypatch):
    kept = []
    import segxai_captum.perturbation as plugin

    regions_of = plugin.regions_of
    monkeypatch.setattr(plugin, "regions_of", lambda one: kept.append(regions_of(one)) or kept[-1])
    more = {"segments": 6, "compactness": 100.0}
    more |= {"coalitions": 40} if name == "kernel_shap" else {}
    found, attribution = subject.explain(name, channels=channels, seed=3, **more)
    box = seen(subject)
    part = Around(subject, box)
    if name == "kernel_shap":
        with torch.random.fork_rng():
            torch.manual_seed(3)
            wanted = captum.attr.KernelShap(part).attribute(
                subject.image[box.index], feature_mask=kept[0], n_samples=40
            )[0]
    else:
        wanted = captum.attr.FeatureAblation(part).attribute(
            subject.image[box.index], feature_mask=kept[0]
        )[0]
    assert literal.worst(found[box.index], wanted) < TOLERANCE
    assert not found.sum(0)[~inside(box, found.shape[1:])].any()
    regions = int(kept[0].max()) + 1
    assert attribution.facts["regions"] == regions
    in_first = len(kept[0][0, 0].unique())
    assert in_first > 2
    assert regions == in_first * (found.shape[0] if channels == "apart" else 1)


def inside(box, shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[box.index] = True
    return mask


# -------------------------------------------------------------------------------------------- laws


def test_shapley_values_sum_to_what_the_score_gains():
    subject = narrow()
    found, attribution = subject.explain("kernel_shap", segments=5, compactness=10.0, coalitions=60)
    one_of_each = {round(float(v), 9) for v in found.unique() if v}
    assert len(one_of_each) == attribution.facts["regions"]
    with torch.no_grad():
        gain = float(subject.score()(subject.image) - subject.score()(0 * subject.image))
    assert sum(one_of_each) == pytest.approx(gain, abs=1e-4 * abs(gain))


def with_labels(subject, labels, path):
    """The case of a file that a label map lies on, and that label map."""
    nib.save(nib.Nifti1Image(labels.astype(np.int16), np.eye(4)), path)
    return replace(subject.case, sources=(Source("image", "image.nii.gz", ""),))


def test_a_single_region_is_refused(tmp_path):
    subject, path = small(), tmp_path / "regions.nii.gz"
    case = with_labels(subject, np.ones((6, 7)), path)
    with pytest.raises(SegxaiError, match="is a single region where the instance depends on it"):
        subject.explain("feature_ablation", case=case, regions=path)


def test_shapley_values_are_the_mean_over_all_orders(tmp_path):
    """All coalitions of four regions, by the definition."""
    subject, path = small(), tmp_path / "regions.nii.gz"
    labels = np.zeros((6, 7), np.int16)
    labels[:3, :4], labels[:3, 4:], labels[3:, :4] = 1, 2, 3
    case = with_labels(subject, labels, path)
    found, _ = subject.explain(
        "kernel_shap", case=case, regions=path, channels="together", coalitions=400
    )
    with torch.no_grad():
        values = {
            kept: float(subject.score()(subject.image * torch.from_numpy(np.isin(labels, kept))))
            for kept in (tuple(np.flatnonzero(bits)) for bits in product((0, 1), repeat=4))
        }
    weight = {0: 1 / 4, 1: 1 / 12, 2: 1 / 12, 3: 1 / 4}
    for region in range(4):
        wanted = sum(
            weight[len(kept)] * (values[tuple(sorted((*kept, region)))] - values[kept])
            for kept in values
            if region not in kept
        )
        ours = float(found[0][torch.from_numpy(labels == region)][0])
        assert ours == pytest.approx(wanted, abs=0.03 * max(map(abs, values.values())))


def test_rise_is_its_definition_in_a_slow_loop():
    subject = solid()
    for centred in (False, True):
        found, attribution = subject.explain(
            "rise", masks=4, cell="3,2,4", keep=0.4, seed=2, centred=centred
        )
        whole = Box.whole((12, 8, 8))
        masks = Masks(2, (3, 2, 4), 0.4, (12, 8, 8))
        drawn = [
            torch.from_numpy(np.stack([masks.draw(n, c, whole) for c in range(2)]))
            for n in range(4)
        ]
        with torch.no_grad():
            scores = [float(subject.score()(subject.image * mask)) for mask in drawn]
        mean = sum(scores) / 4 if centred else 0
        wanted = sum((s - mean) * mask for s, mask in zip(scores, drawn, strict=True)) / (4 * 0.4)
        box = seen(subject)
        assert literal.worst(found[box.index], wanted[box.index]) < TOLERANCE
        assert attribution.facts["mean_score_of_masks"] == pytest.approx(sum(scores) / 4, abs=1e-5)


def test_masks_interpolate_shifted_cells_and_do_not_depend_on_the_box():
    masks = Masks(7, (4, 3), 0.5, (17, 11))
    whole = masks.draw(5, 1, Box.whole((17, 11)))
    assert np.array_equal(masks.draw(5, 1, Box((3, 2), (6, 5))), whole[3:9, 2:7])
    assert not np.array_equal(masks.draw(6, 1, Box.whole((17, 11))), whole)
    random = np.random.default_rng([7, 5, 1])
    cells = random.random((6, 5)) < 0.5
    y0, x0 = int(random.integers(4)), int(random.integers(3))
    for y, x in product(range(17), range(11)):
        (i, a), (j, b) = divmod((y + y0) / 4, 1), divmod((x + x0) / 3, 1)
        corners = [
            (1 - a) * (1 - b) * cells[int(i), int(j)],
            (a * (1 - b) * cells[int(i) + 1, int(j)]) if a else 0,
            ((1 - a) * b * cells[int(i), int(j) + 1]) if b else 0,
            (a * b * cells[int(i) + 1, int(j) + 1]) if a and b else 0,
        ]
        assert whole[y, x] == pytest.approx(sum(corners), abs=1e-5)
    shares = [masks.draw(n, 0, Box.whole((17, 11))).mean() for n in range(200)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", ["occlusion", "feature_ablation", "kernel_shap", "rise"])
def test_the_model_is_left_as_it_came_and_all_work_is_counted(name):
    subject, ticks = narrow(), []
    network = subject.predictor.network.train()
    before, state = fingerprint(network), torch.get_rng_state()
    own = {
        "occlusion": {"patch": "4"},
        "feature_ablation": {"segments": 4, "compactness": 10.0},
        "kernel_shap": {"segments": 3, "compactness": 10.0, "coalitions": 20},
        "rise": {"masks": 5},
    }[name]
    maps = [subject.explain(name, seed=1, context={"tick": ticks.append}, **own)[0]]
    assert sum(ticks) == pytest.approx(1)
    assert max(ticks) < 0.3
    maps.append(subject.explain(name, seed=1, **own)[0])
    assert torch.equal(*maps)
    assert_same(network, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_lengths_are_in_voxels_or_millimetres():
    subject = narrow()
    affine = np.diag([2.0, 0.5, 1.0])
    case = replace(subject.case, grid=replace(subject.case.grid, affine=affine))
    for one, other in (("6mm", "3,12"), ("6,2mm", "3,4"), ("1,2mm", "1,4")):
        maps = [subject.explain("occlusion", case=case, patch=text)[0] for text in (one, other)]
        assert torch.equal(*maps)


@pytest.mark.parametrize(
    ("name", "own", "words"),
    [
        ("occlusion", {"patch": "0"}, "patch=0: give a length above 0 in voxels or in mm"),
        ("occlusion", {"patch": "4cm"}, "patch=4cm: give a length"),
        ("occlusion", {"patch": "4,4,4"}, "patch=4,4,4: give one length, or 2, one for each axis"),
        ("occlusion", {"patch": "2", "stride": "3"}, "stride=3 leaves gaps between patches of 2"),
        ("rise", {"keep": 1.0}, "keep=1: give a probability"),
        ("rise", {"masks": 1}, "masks=1: give 2 or more"),
        (
            "kernel_shap",
            {"coalitions": 9, "compactness": 10.0},
            "coalitions=9 do not determine the Shapley values of",
        ),
        ("feature_ablation", {"segments": 1}, "segments=1: give 2 or more"),
        ("feature_ablation", {"compactness": 0.0}, "compactness=0: give a number above 0"),
    ],
)
def test_what_makes_no_sense_is_one_line(name, own, words):
    with pytest.raises(SegxaiError, match=words):
        flat().explain(name, **own)
