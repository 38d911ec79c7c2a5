"""The adapter with its embedded model, here a small network of random weights."""

from dataclasses import replace

import numpy as np
import pytest
from segxai_ms_lesion.adapter import EMBEDDED
from segxai_nnunet import adapter

from segxai.geometry import Box, Grid
from segxai.load.resampling import resample
from segxai.plugins.registry import load_adapter
from segxai.testing import check_adapter
from tests.nnunet import folders as nnunet


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """The plugin's own adapter, with a small network of random weights in its place."""
    path = tmp_path_factory.mktemp("embedded") / "weights"
    chosen = nnunet.configuration(patch_size=[32, 32, 32], spacing=[1.0, 1.0, 1.0])
    named = {
        "channel_names": {"0": "FLAIR", "1": "MPRAGE"},
        "labels": {"background": 0, "lesion": 1},
    }
    options = {"image_reader_writer": "NibabelIOWithReorient", "transpose_forward": [2, 1, 0]}
    return adapter.embedded(
        nnunet.trained_model(path, chosen, named=named, outputs=2, mirror_axes=(0,), **options)
    )


def test_the_embedded_case_is_that_of_the_plugin_ms_lesion(brain):
    case, theirs = brain.embedded_case(), load_adapter("ms_lesion").embedded_case()
    assert (case.name, case.channels, case.warnings) == ("embedded", ("flair", "mprage"), ())
    assert case.input_unit == "standard deviation"
    back = resample(case.reference, case.grid, theirs.grid, order=0)
    np.testing.assert_array_equal(back, theirs.reference)
    (note,) = case.notes
    assert note.startswith("cropped from ")
    assert brain.criteria.min_volume_mm3 == 5
    assert brain.mirror_axes == (0,)


def test_guards_of_brain_images_belong_to_the_embedded_model_alone(brain, folder):
    files = {"flair": EMBEDDED / "mprage.nii.gz", "mprage": EMBEDDED / "flair.nii.gz"}
    assert any("swapped" in text for text in brain.read(files).warnings)
    own = adapter.for_checkpoint(brain.weights.parents[1])
    assert own.read(files).warnings == ()
    case = brain.embedded_case()
    dark = replace(case, image=-case.image)
    assert brain.check_objects(dark, case.reference)
    assert not own.check_objects(dark, case.reference)


def test_the_conformance_kit_finds_nothing(brain):
    """On a part of the embedded case, which takes a single tile."""
    case, part = brain.embedded_case(), Box((50, 60, 50), (28, 28, 28))
    cut = {"image": case.image[part.index], "foreground": case.foreground[part.index]}
    small = replace(case, grid=Grid.unit(part.size), reference=None, source_grid=None, **cut)
    found = list(check_adapter(replace(brain, embedded_case=lambda: small)))
    assert not [one for one in found if not one.holds]
    assert len(found) > 10
