"""The recipe's loads, its losses, and the bank of its cases."""

from pathlib import Path
from queue import Empty

import numpy as np
import pytest
import torch
from segxai_ms_lesion.recipe import anatomies, cases
from segxai_ms_lesion.recipe.bank import StoredCases, case_path, store
from segxai_ms_lesion.recipe.cases import Sources, TrainingCase
from segxai_ms_lesion.recipe.lesions import CONFLUENT_MM3, HEAVY_MM3, is_heavy, placed
from segxai_ms_lesion.recipe.losses import batch_dice_loss, blob_loss, even_loss
from segxai_ms_lesion.recipe.sources import HELD_OUT_MASKS
from segxai_ms_lesion.recipe.train import latest
from segxai_ms_lesion.recipe.validation import LOADS, choice_of, scores_at
from segxai_ms_lesion.recipe.volumes import Volume

from tests.ms_lesion.heldout import SHAPE, block, held_out

DRAWS = 800


def test_a_mask_is_heavy_by_its_largest_lesion() -> None:
    size = round(HEAVY_MM3 ** (1 / 3)) + 1
    assert is_heavy(block(*(slice(2, 2 + size),) * 3))
    several = block(*np.s_[2:4, 2:38, 2:38]) | block(*np.s_[10:12, 2:38, 2:38])
    assert several.sum() > HEAVY_MM3
    assert not is_heavy(several)
    assert not is_heavy(np.zeros(SHAPE, dtype=bool))


def test_a_confluent_lesion_joins_those_there_and_stays_near_white_matter() -> None:
    inside, white = block(*np.s_[2:38, 2:38, 2:38]), block(*np.s_[2:20, 2:38, 2:38])
    there = block(*np.s_[10:13, 10:13, 10:13])
    image = inside.astype(np.float32)
    anatomy = anatomies.Anatomy(image, image, inside, white, inside, there)
    large, small = block(*np.s_[8:30, 8:18, 8:18]), block(*np.s_[15:25, 24:27, 20:23])
    assert large.sum() > CONFLUENT_MM3
    labels = placed(large | small, anatomy, 1.0, np.random.default_rng(0))
    expected = (large & block(*np.s_[2:22, 2:38, 2:38])) & ~there | small
    np.testing.assert_array_equal(labels > 0, expected)


def test_half_of_the_cases_have_a_heavy_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a case takes seconds, so that what it is made of is noted instead."""
    light, heavy = (Volume(np.full((1, 1, 1, 1), one), (0.0, 0.0, 0.0)) for one in (0.0, 1.0))
    case, drawn = held_out(), []

    def noted(
        sources: Sources,
        masks: list[Volume],
        random: np.random.Generator,
        *,
        on_patient: bool,
        heavy: bool,
    ) -> TrainingCase:
        drawn.append((on_patient, heavy, [float(mask.values.max()) for mask in masks]))
        return case

    monkeypatch.setattr(cases, "made_case", noted)
    sources = Sources(light, light, [light], lambda image: image, [heavy])
    for seed in range(DRAWS):
        cases.random_case(sources, np.random.default_rng(seed))

    def share(*of: bool) -> object:
        return pytest.approx(np.mean(of), abs=2 / np.sqrt(len(of)))  # at least 4 errors

    pasted = [(is_heavy, masks) for _, is_heavy, masks in drawn if masks]
    assert share(*(on_patient for on_patient, *_ in drawn)) == cases.PATIENT_SHARE
    assert share(*(not masks for on_patient, _, masks in drawn if on_patient)) == cases.BARE_SHARE
    assert share(*(is_heavy for is_heavy, _ in pasted)) == 0.5
    assert all(masks for on_patient, _, masks in drawn if not on_patient)
    assert all(set(masks) == {float(is_heavy)} for is_heavy, masks in pasted)
    assert all(len(masks) == 1 for is_heavy, masks in pasted if not is_heavy)
    assert share(*(len(masks) == 2 for is_heavy, masks in pasted if is_heavy)) == cases.PAIR_SHARE


def test_every_held_out_mask_has_a_load() -> None:
    numbers = {number for members in LOADS.values() for one in members for number in one}
    assert numbers == set(HELD_OUT_MASKS)


def test_drawing_everything_has_no_quality() -> None:
    members = {"one": [held_out()]}
    everything = {"one": [np.ones(SHAPE, dtype=np.float32)]}
    found = choice_of(0.5, scores_at(0.5, everything, members))
    assert found.quality == pytest.approx(np.sqrt(2 * 64 / (64 + 40**3)))


def test_dice_of_a_batch_counts_voxels_of_all_patches_together() -> None:
    probability = torch.tensor([[0.5, 1.0], [0.25, 0.0]]).reshape(2, 2, 1, 1)
    lesion = torch.tensor([[0, 1], [1, 0]]).reshape(2, 2, 1, 1) > 0
    expected = 1 - (2 * (1.0 + 0.25) + 1) / (1.75 + 2 + 1)
    assert float(batch_dice_loss(probability, lesion)) == pytest.approx(expected)
    assert float(batch_dice_loss(probability * 0, lesion & False)) == 0


def test_the_even_loss_is_its_three_parts() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 2, 5, 5, 5), generator=random, dtype=torch.float64).float()
    lesions = torch.zeros((2, 5, 5, 5), dtype=torch.int64)
    lesions[0, :2, :2, :2], lesions[1, 3:, 3:, 3:] = 1, 2
    probability = torch.softmax(logits, dim=1)[:, 1]
    right = torch.where(lesions > 0, probability, 1 - probability)
    expected = (
        -100 * right.log().mean()
        + batch_dice_loss(probability, lesions > 0)
        + 0.25 * blob_loss(probability, lesions)
    )
    torch.testing.assert_close(even_loss(logits, lesions), expected)


def test_a_bank_gives_its_cases_in_order_and_normalised(tmp_path: Path) -> None:
    case = held_out()
    stored = StoredCases(tmp_path, lambda images: 2 * images)
    with pytest.raises(Empty):
        stored.get_nowait()
    store(case, case_path(tmp_path, 0))
    store(TrainingCase(3 * case.image, case.lesions), case_path(tmp_path, 1))
    for factor in (2, 6):
        given = stored.get()
        np.testing.assert_array_equal(given.image, factor * case.image)
        np.testing.assert_array_equal(given.lesions, case.lesions)
    with pytest.raises(Empty):
        stored.get_nowait()


def test_the_latest_weights_lie_beside_the_best() -> None:
    assert latest(Path("runs") / "unet.safetensors") == Path("runs") / "unet_latest.safetensors"
