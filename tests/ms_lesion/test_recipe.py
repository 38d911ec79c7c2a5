"""The recipe behind the embedded weights: what it may read, and its arithmetic."""

import ast
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import segxai_ms_lesion.recipe
import torch
from segxai_ms_lesion import network
from segxai_ms_lesion.recipe import anatomies, sources
from segxai_ms_lesion.recipe.appearance import scanned
from segxai_ms_lesion.recipe.cases import TrainingCase, random_patch
from segxai_ms_lesion.recipe.evaluate import scored, stored_threshold
from segxai_ms_lesion.recipe.lesions import LesionLook, placed, with_lesions
from segxai_ms_lesion.recipe.losses import blob_loss, normalised_dice_loss
from segxai_ms_lesion.recipe.scores import lesions, score
from segxai_ms_lesion.recipe.train import rate_factor
from segxai_ms_lesion.recipe.volumes import Volume, deformed_points, grid_points, sample

from segxai.plugins.registry import load_adapter
from segxai.tables.scores import COLUMNS

SHARED = Path(__file__).parents[3] / "shared"
OPEN_MS = SHARED / "data" / "open_ms"
CASE = Path(network.__file__).parent / "case"

needs_open_ms = pytest.mark.skipif(not OPEN_MS.is_dir(), reason=f"no real data at {OPEN_MS}")


def box(shape: tuple[int, int, int], *corners: tuple[slice, slice, slice]) -> np.ndarray:
    """A mask that is true in the given boxes."""
    mask = np.zeros(shape, dtype=bool)
    for corner in corners:
        mask[corner] = True
    return mask


# --- what the recipe may read


@pytest.mark.parametrize(
    "name", ["patient26/flair.nii.gz", "patient26/gt.nii.gz", "lesion_masks_mni/patient26.nii.gz"]
)
def test_the_recipe_refuses_the_test_patient(name: str) -> None:
    with pytest.raises(sources.ReservedPatientError, match="patient 26, kept for the test"):
        sources.open_volume(OPEN_MS / name)


def test_a_link_to_the_test_patient_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patient26").mkdir()
    (tmp_path / "harmless.nii.gz").symlink_to(tmp_path / "patient26" / "flair.nii.gz")
    with pytest.raises(sources.ReservedPatientError, match="patient 26"):
        sources.open_volume(tmp_path / "harmless.nii.gz")


def test_training_masks_leave_out_every_reserved_patient(tmp_path: Path) -> None:
    (tmp_path / "lesion_masks_mni").mkdir()
    for number in range(1, 31):
        sources.mask_path(tmp_path, number).touch()
    numbers = set(sources.training_mask_numbers(tmp_path))
    assert numbers == set(range(1, 31)) - {26, 7, 28, *sources.HELD_OUT_MASKS}


@needs_open_ms
def test_opening_all_training_data_reads_nothing_of_the_test_patient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def recorded(path: Path) -> nib.Nifti1Image:
        """Note the path; a small image stands for what reading it takes seconds to give."""
        opened.append(Path(path).resolve().relative_to(OPEN_MS.resolve()).as_posix())
        return nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.float32), np.diag([-1, 1, 1, 1]))

    monkeypatch.setattr(nib, "load", recorded)
    training = sources.training_mask_numbers(OPEN_MS)
    sources.open_masks(OPEN_MS, (*training, *sources.HELD_OUT_MASKS, sources.EMBEDDED_CASE_MASK))
    sources.open_training_patient(OPEN_MS)
    assert len(set(opened)) == len(opened) == len(training) + len(sources.HELD_OUT_MASKS) + 4
    assert not [path for path in opened if "26" in path]


def test_only_the_evaluation_opens_files_beside_the_guarded_door() -> None:
    folder = Path(segxai_ms_lesion.recipe.__file__).parent
    readers = {
        path.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("load", "read")
    }
    assert readers == {"sources.py", "evaluate.py"}


# --- scores and losses


def test_scores_of_a_small_example() -> None:
    reference = box((20, 20, 20), np.s_[2:4, 2:4, 2:4], np.s_[10:12, 10:12, 10:12])
    predicted = box((20, 20, 20), np.s_[3:5, 2:4, 2:4], np.s_[15:17, 15:17, 15:17])
    predicted[0, 0, :3] = True  # a speck of 3 voxels
    found = score(predicted, reference)
    factor = (16 / (8000 - 16)) * 0.999 / 0.001
    assert found.columns == {
        "dice": pytest.approx(2 * 4 / 32),
        "ndsc": pytest.approx(8 / (8 + factor * 12 + 12)),
        "predicted_tp": 1,
        "predicted_fp": 1,
        "reference_found": 1,
        "reference_fn": 1,
        "tpr_of_reference": 0.5,
        "fdr_of_predicted": 0.5,
    }
    assert set(found.columns) <= set(COLUMNS)


def test_components_connect_over_edges_and_not_over_corners() -> None:
    mask = box((12, 12, 12), np.s_[0:2, 0:2, 0:2], np.s_[2:4, 2:4, 0:2], np.s_[4:6, 4:6, 2:4])
    assert len(lesions(mask)) == 2


def test_scores_are_undefined_where_there_is_nothing() -> None:
    nothing = np.zeros((4, 4, 4), dtype=bool)
    found = score(nothing, nothing).columns
    assert np.isnan([found["dice"], found["tpr_of_reference"], found["fdr_of_predicted"]]).all()


def test_blob_loss_agrees_with_a_loop_over_lesions() -> None:
    random = torch.Generator().manual_seed(0)
    probability = torch.rand((2, 6, 6, 6), generator=random, dtype=torch.float64)
    lesions = torch.zeros((2, 6, 6, 6), dtype=torch.int64)
    lesions[0, :2, :2, :2], lesions[0, 4:, 4:, 4:], lesions[1, 1, 1, 1] = 3, 5, 1
    literal = []
    for found, labels in zip(probability, lesions, strict=True):
        dice = []
        for number in labels[labels > 0].unique():
            kept = (labels == number) | (labels == 0)
            inside = found[labels == number].sum()
            total = found[kept].sum() + (labels == number).sum()
            dice.append(1 - (2 * inside + 1) / (total + 1))
        literal.append(torch.stack(dice).mean())
    torch.testing.assert_close(blob_loss(probability, lesions), torch.stack(literal).mean())


def test_losses_of_a_patch_without_lesions_are_zero() -> None:
    probability = torch.full((1, 4, 4, 4), 0.3)
    nothing = torch.zeros((1, 4, 4, 4), dtype=torch.int64)
    assert blob_loss(probability, nothing) == 0
    assert normalised_dice_loss(probability, nothing > 0) == 0


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [rate_factor(progress) for progress in np.linspace(0, 1, 101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    assert np.diff(np.sign(np.diff(rates))).tolist().count(-2) == 1


# --- volumes, lesions, appearance


def test_sampling_a_volume_on_its_own_grid_gives_it_back() -> None:
    values = np.random.default_rng(0).random((2, 5, 6, 7)).astype(np.float32)
    points = grid_points((5, 6, 7), (-3.0, 4.0, 10.0))
    found = sample(Volume(values, (-3.0, 4.0, 10.0)), points)
    np.testing.assert_allclose(found, values, atol=1e-5)


def test_no_deformation_reads_every_voxel_where_it_is() -> None:
    class Middle(np.random.Generator):
        """Draws the middle of every range, so that only the anisotropic scale could differ."""

        def uniform(self, low: float = 0, high: float = 1, size: int | None = None) -> np.ndarray:
            return np.full(size or (), (low + high) / 2)

    points = deformed_points(
        Middle(np.random.PCG64(0)),
        scale=(1.0, 1.0),
        degrees=0.0,
        shift_mm=0.0,
        displacement_mm=0.0,
        flip=False,
    )
    np.testing.assert_allclose(points, grid_points(), atol=1e-3)


def brain(shape: tuple[int, int, int]) -> anatomies.Anatomy:
    """A cube of tissue whose left half is white matter."""
    inside = box(shape, np.s_[2:-2, 2:-2, 2:-2])
    white = inside.copy()
    white[shape[0] // 2 :] = False
    image = inside.astype(np.float32) * 10
    return anatomies.Anatomy(image, image, inside, white, inside, np.zeros(shape, dtype=bool))


def test_lesions_go_where_white_matter_is_and_change_both_channels() -> None:
    anatomy = brain((24, 24, 24))
    mask = box((24, 24, 24), np.s_[5:8, 5:8, 5:8], np.s_[16:19, 5:8, 5:8])
    random = np.random.default_rng(0)
    labels = placed(mask, anatomy, 1.0, random)
    np.testing.assert_array_equal(labels > 0, box((24, 24, 24), np.s_[5:8, 5:8, 5:8]))
    look = LesionLook(flair_gain=0.4, mprage_loss=0.2, spread=0.0, edge_mm=0.5, halo=0.0)
    result = with_lesions(anatomy, labels, look, random)
    np.testing.assert_array_equal(result.lesions, labels > 0)
    assert result.flair[6, 6, 6] > 12
    assert result.mprage[6, 6, 6] < 9
    assert result.flair[17, 6, 6] == result.mprage[17, 6, 6] == 10


def test_a_perfect_scanner_changes_the_unit_alone() -> None:
    random = np.random.default_rng(0)
    image = brain((16, 16, 16)).flair * random.uniform(0.5, 1, (16, 16, 16)).astype(np.float32)
    result = scanned(image, 0.0, random)
    np.testing.assert_allclose(result * np.percentile(image[image != 0], 99), image, rtol=1e-4)


def test_scanning_keeps_the_background_and_only_that() -> None:
    anatomy = brain((16, 16, 16))
    for seed in range(5):
        result = scanned(anatomy.flair, 1.0, np.random.default_rng(seed))
        np.testing.assert_array_equal(result != 0, anatomy.brain)


def test_a_patch_is_cut_alike_from_image_and_lesions() -> None:
    lesions = box((32, 40, 32), np.s_[10:13, 20:22, 8:10]).astype(np.int16)
    image = np.stack([lesions + 1, 3 - lesions]).astype(np.float16)
    for seed in range(5):
        patch = random_patch(TrainingCase(image, lesions), 16, np.random.default_rng(seed))
        assert patch.lesions.shape == (16, 16, 16)
        np.testing.assert_array_equal(patch.image[0], patch.lesions + 1)


# --- what the recipe left in the package


def test_the_embedded_case_is_small_and_skull_stripped() -> None:
    files = {name: CASE / f"{name}.nii.gz" for name in ("flair", "mprage", "reference")}
    assert sum(path.stat().st_size for path in files.values()) < 3_000_000
    images = {name: nib.load(path) for name, path in files.items()}
    flair, mprage, reference = (np.asarray(image.dataobj) for image in images.values())
    assert flair.shape == mprage.shape == reference.shape == (144, 168, 96)
    np.testing.assert_array_equal(flair == 0, mprage == 0)
    assert (flair[reference > 0] > 0).all()
    for image in images.values():
        assert image.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine[:3, :3], np.eye(3))


def test_the_network_finds_most_lesions_of_the_embedded_case() -> None:
    adapter = load_adapter("ms_lesion")
    assert scored(adapter, adapter.embedded_case()).matching.recall >= 0.7


def test_the_threshold_of_the_weights_is_the_constant() -> None:
    assert stored_threshold(network.weights_file()) == network.THRESHOLD
