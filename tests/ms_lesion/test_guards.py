"""The guards speak where something is wrong and only there, on a real patient if there is one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Bool, Float
from scipy import ndimage
from segxai_ms_lesion.guards import check_images, check_lesion_contrast, tissue_order

from segxai.load.resampling import resample, working_grid
from segxai.load.volumes import load_labels, load_volume

PHANTOM = Path(__file__).parents[2] / "plugins/segxai_ms_lesion/case"

Image = Float[np.ndarray, "x y z"]
Pair = tuple[Image, Image]
LEVELS = ([40, 100, 115], [50, 300, 230])  # FLAIR, MPRAGE of the made-up brain


def read(path: Path) -> Image:
    """The image in a file, on its working grid."""
    volume = load_volume(path, path.name)
    return resample(volume.data, volume.grid, working_grid(volume.grid), order=1)


@pytest.fixture(scope="session")
def patient_folder(shared: Path) -> Path:
    """The files of a real patient."""
    folder = shared / "data" / "open_ms" / "patient07"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: real patients are not part of the project")
    return folder


@pytest.fixture(scope="session")
def patient(patient_folder: Path) -> Pair:
    """FLAIR and T1 of a real patient, skull-stripped."""
    return read(patient_folder / "flair.nii.gz"), read(patient_folder / "t1.nii.gz")


@pytest.fixture(scope="session")
def patient_lesions(patient_folder: Path) -> Bool[np.ndarray, "x y z"]:
    """Where three experts saw lesions."""
    labels, grid, _ = load_labels(patient_folder / "gt.nii.gz", "reference")
    return resample(labels > 0, grid, working_grid(grid), order=0)


@pytest.fixture(scope="session")
def ball() -> Pair:
    """A made-up brain: a ball of white matter in a shell of cortex, with a ventricle."""
    radius = np.linalg.norm(np.indices((130,) * 3) - 64.5, axis=0)
    layers = [radius < 10, radius < 52, radius < 60]  # ventricle, white matter, cortex
    noise = np.random.default_rng(0).normal(0, 8, (2, *radius.shape))
    images = [np.select(layers, levels) + noise[i] for i, levels in enumerate(LEVELS)]
    flair, mprage = (np.where(radius < 60, image, 0).astype(np.float32) for image in images)
    return flair, mprage


@pytest.fixture(params=["patient", "ball"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Each good pair."""
    good: Pair = request.getfixturevalue(request.param)
    return good


def both(change: Callable[[Image], Image], pair: Pair) -> Pair:
    """The pair with each image changed."""
    return change(pair[0]), change(pair[1])


def z_scored(image: Image) -> Image:
    """The image normalised inside the brain, the background left at 0."""
    brain = image[image != 0]
    return np.where(image != 0, (image - brain.mean()) / brain.std(), 0).astype(np.float32)


def slab(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """A part of the field of view."""
    return tuple(slice(start, stop) if i == axis else slice(None) for i in range(3))


# -------------------------------------------------------------------------------------- the order


def test_a_good_pair_passes(pair: Pair) -> None:
    assert check_images(*pair, 1.0) == []


def test_the_phantom_passes_and_is_caught_when_swapped() -> None:
    if not (PHANTOM / "flair.nii.gz").is_file():
        pytest.skip("the phantom case is not built")
    flair, mprage = read(PHANTOM / "flair.nii.gz"), read(PHANTOM / "mprage.nii.gz")
    assert check_images(flair, mprage, 1.0) == []
    assert any("swapped" in warning for warning in check_images(mprage, flair, 1.0))


def test_swapped_channels_are_caught(pair: Pair) -> None:
    (warning,) = check_images(*pair[::-1], 1.0)
    assert "look swapped" in warning
    assert "flair=FILE mprage=FILE" in warning


@pytest.mark.parametrize("bounds", [(0, 50), (50, 70), (62, 66), (70, 130)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slab_is_enough(pair: Pair, axis: int, bounds: tuple[int, int]) -> None:
    flair, mprage = (image[slab(axis, *bounds)] for image in pair)
    assert check_images(flair, mprage, 1.0) == []
    assert any("look swapped" in warning for warning in check_images(mprage, flair, 1.0))


@pytest.mark.parametrize("distortion", ["bias", "dark rim", "gamma", "noise", "tight mask"])
def test_the_order_survives_what_scanners_do(patient: Pair, distortion: str) -> None:
    flair, mprage = (distorted(image, distortion) for image in patient)
    assert check_images(flair, mprage, 1.0) == []
    assert any("look swapped" in warning for warning in check_images(mprage, flair, 1.0))


def distorted(image: Image, distortion: str) -> Image:
    """The image as another scanner, or another brain mask, would have made it."""
    axes = np.ogrid[tuple(slice(-0.5, 0.5, size * 1j) for size in image.shape)]
    field = 1 + sum(axis**2 for axis in axes)
    brain = image != 0
    noise = np.random.default_rng(0).normal(0, 0.1 * image[brain].mean(), image.shape)
    changed = {
        "bias": image * field,
        "dark rim": image / field,
        "gamma": np.sign(image) * abs(image) ** 1.5,
        "noise": image + brain * noise,
        "tight mask": image * ndimage.binary_erosion(brain, iterations=3),
    }
    return np.asarray(changed[distortion], dtype=np.float32)


def test_many_lesions_are_no_swap(
    patient: Pair, patient_lesions: Bool[np.ndarray, "x y z"]
) -> None:
    lesions = ndimage.binary_dilation(patient_lesions, iterations=6) & (patient[0] != 0)
    assert lesions.sum() > 30_000  # mm3, a severe case
    flair, mprage = np.where(lesions, 1.45, 1) * patient[0], np.where(lesions, 0.75, 1) * patient[1]
    assert check_images(flair, mprage, 1.0) == []


def test_the_order_changes_its_sign_with_the_channels(pair: Pair) -> None:
    brain = pair[0] != 0
    order = tissue_order(*pair, brain, 1.0)
    assert order is not None
    assert order > 0.15
    assert tissue_order(*pair[::-1], brain, 1.0) == pytest.approx(-order)


def test_a_small_patch_says_nothing(pair: Pair) -> None:
    inside = (slice(58, 72),) * 3
    patch = both(lambda image: image[inside], pair)
    assert tissue_order(*patch, np.ones((14,) * 3, bool), 1.0) is None
    assert tissue_order(*pair, np.zeros(pair[0].shape, bool), 1.0) is None


# -------------------------------------------------------------------------------- the intensities


def test_a_head_that_is_not_stripped_is_caught(pair: Pair) -> None:
    head = ndimage.binary_dilation(pair[0] != 0, iterations=25)
    warnings = check_images(*both(lambda image: np.where(head, image + 20, 0), pair), 1.5)
    assert len(warnings) == 2
    assert "FLAIR has" in warnings[0]
    assert "HD-BET, SynthStrip, FSL bet" in warnings[1]
    assert not any("swapped" in warning for warning in warnings)


def test_air_that_is_not_0_is_caught(pair: Pair) -> None:
    air = np.random.default_rng(0).random(pair[0].shape, dtype=np.float32)
    warnings = check_images(*both(lambda image: image + air, pair), 1.0)
    assert all("air is not exactly 0" in warning for warning in warnings)
    assert len(warnings) == 2


def test_the_voxel_volume_counts(pair: Pair) -> None:
    assert any("litres" in warning for warning in check_images(*pair, 2.5))


def test_images_that_are_normalised_already_are_caught(pair: Pair) -> None:
    warnings = check_images(*both(z_scored, pair), 1.0)
    assert [warning.split(" (")[0] for warning in warnings] == [
        f"{name} seems to be normalised already" for name in ("FLAIR", "MPRAGE")
    ]


def test_normalised_and_swapped_images_are_caught_twice(pair: Pair) -> None:
    warnings = check_images(*both(z_scored, (pair[1], pair[0])), 1.0)
    assert "look swapped" in warnings[-1]


def test_a_background_that_is_not_0_is_caught(pair: Pair) -> None:
    flair = (pair[0] - pair[0].mean()) / pair[0].std()
    warnings = check_images(flair, pair[1], 1.0)
    assert "not 0 outside of the brain" in warnings[0]


def test_the_same_image_twice_is_caught(pair: Pair) -> None:
    (warning,) = check_images(pair[0], 3 * pair[0], 1.0)
    assert "correlation 1.000" in warning


def test_images_that_are_not_registered_are_caught(pair: Pair) -> None:
    warnings = check_images(pair[0], np.roll(pair[1], 20, axis=1), 1.0)
    assert "overlap by 7" in warnings[0]


def test_a_mask_in_place_of_an_image_is_caught(pair: Pair) -> None:
    warnings = check_images((pair[0] != 0).astype(np.float32), pair[1], 1.0)
    assert "FLAIR has only 1" in warnings[0]


def test_an_empty_image_is_caught() -> None:
    empty = np.zeros((20, 20, 20), dtype=np.float32)
    assert "no voxel that differs" in check_images(empty, empty, 1.0)[0]


# ------------------------------------------------------------------------------------ the lesions


def test_lesions_of_a_patient_pass(
    patient: Pair, patient_lesions: Bool[np.ndarray, "x y z"]
) -> None:
    image = np.stack([z_scored(channel) for channel in patient])
    assert check_lesion_contrast(image, patient_lesions, patient[0] != 0) == []
    (warning,) = check_lesion_contrast(image[::-1], patient_lesions, patient[0] != 0)
    assert "look swapped" in warning


@pytest.mark.parametrize(
    ("flair", "mprage", "words"),
    [
        (1.0, -1.0, None),
        (1.0, 0.5, None),  # a lesion that T1 does not show as dark
        (-1.0, 1.0, "FLAIR is 1 darker inside the lesions than around them and MPRAGE 1 brighter"),
        (-1.0, -1.0, "FLAIR is 1 darker inside the lesions than around them: lesions of MS"),
    ],
)
def test_lesions_have_a_contrast(flair: float, mprage: float, words: str | None) -> None:
    lesions = np.zeros((20, 20, 20), dtype=bool)
    lesions[8:12, 8:12, 8:12] = True
    image = np.stack([flair * lesions, mprage * lesions])
    warnings = check_lesion_contrast(image, lesions, np.ones_like(lesions))
    assert len(warnings) == (words is not None)
    assert all(str(words) in warning for warning in warnings)


def test_the_surroundings_of_a_lesion_end_at_three_voxels() -> None:
    """Only voxels at exactly this distance are brain; those at the next one do not count."""
    lesions = np.zeros((20, 20, 20), dtype=bool)
    lesions[8:12, 8:12, 8:12] = True
    for distance, warned in ((3, True), (4, False)):
        brain = lesions.copy()
        brain[8:12, 8:12, 11 + distance] = True
        image = np.stack([-1.0 * lesions, 1.0 * lesions])
        assert bool(check_lesion_contrast(image, lesions, brain)) == warned


def test_few_voxels_and_no_surroundings_say_nothing() -> None:
    lesions = np.zeros((20, 20, 20), dtype=bool)
    lesions[8:10, 8:10, 8:10] = True
    image = np.stack([-1.0 * lesions, 1.0 * lesions])
    assert check_lesion_contrast(image, lesions, np.ones_like(lesions)) == []
    lesions[5:12, 5:12, 5:12] = True
    assert check_lesion_contrast(image, lesions, lesions) == []
    assert check_lesion_contrast(image, np.ones_like(lesions), np.ones_like(lesions)) == []
