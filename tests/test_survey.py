"""What is found in a case, and which rows of it are chosen."""

import nibabel as nib
import numpy as np
import pytest

from segxai.pipeline import survey
from segxai.plugins.registry import load_adapter
from segxai.rows.sampling import sample_rows
from segxai.run.options import Options
from segxai.run.prepare import prepare

SPACING = (1.0, 1.0, 2.5)


@pytest.fixture
def thick(case, toys):
    """The made-up case, with thick slices."""
    for name in ("bright.nii.gz", "other.nii.gz"):
        data = nib.load(case / name).get_fdata().astype(np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([*SPACING, 1.0])), case / name)
    return {"bright": case / "bright.nii.gz", "other": case / "other.nii.gz"}


def explained(files, **asked):
    adapter = load_adapter("toy", None)
    options = Options.of(method="gradient", device="cpu", rows=6, **asked)
    return survey(prepare(adapter, adapter.read(files), options)).explained


def test_rows_are_drawn_by_the_seed_and_the_spacing(thick):
    whole, drawn = explained(thick, seed=0), []
    for seed in (0, 3):
        for instance, plain in zip(explained(thick, seed=seed), whole, strict=True):
            wanted = sample_rows(plain, 6, seed, SPACING).sampled
            np.testing.assert_array_equal(instance.sampled, wanted)
            drawn.append(wanted.tolist())
    assert len(set(map(tuple, drawn))) == len(drawn)
    flat = [sample_rows(plain, 6, 3).sampled.tolist() for plain in whole]
    assert flat != drawn[len(whole) :]
