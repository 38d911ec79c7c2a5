"""A reference with several labels: the label of the class is taken and said, or asked for."""

import numpy as np
import pytest

from segxai.errors import SegxaiError, SegxaiWarning
from segxai.geometry import Grid
from segxai.load.masks import with_reference
from segxai.load.resampling import working_grid
from segxai.run.reference import of_class
from segxai.store import hdf5
from segxai.store.schema import provenance_of
from segxai.types import Case
from tests.commandline import segxai, write_nifti
from tests.toy.segxai_toy import BALLS, picture

CLASSES = ("background", "necrosis", "oedema", "enhancing")
LABELS = np.array([0, 1, 2, 2, 3])


def test_of_several_labels_the_class_number_is_taken_and_said():
    words = "of the labels 1, 2, 3 in the reference, 2 is taken, the number of the class oedema"
    with pytest.warns(SegxaiWarning, match=words):
        assert of_class(LABELS, CLASSES, 2).tolist() == [False, False, True, True, False]
    with pytest.warns(SegxaiWarning, match="of the labels 1, 3 in the reference, 2 is taken"):
        assert not of_class(LABELS * (LABELS != 2), CLASSES, 2).any()


@pytest.mark.parametrize(
    ("labels", "classes", "index", "activation"),
    [
        (LABELS, ("background", "lesion"), 1, "softmax"),  # numbered lesions
        (LABELS, ("lesion",), 0, "softmax"),
        (LABELS, CLASSES, 0, "softmax"),  # 0 is no label
        (LABELS, ("whole", "core", "enhancing", "other"), 1, "sigmoid"),  # they may overlap
        (LABELS * 2, CLASSES, 2, "softmax"),  # 6 is the number of no class
    ],
)
def test_labels_that_may_mean_anything_are_refused(labels, classes, index, activation):
    name = classes[index]
    with pytest.raises(
        SegxaiError, match=f"which of them is {name} is not known: give reference_l"
    ):
        of_class(labels, classes, index, activation=activation)
    found = of_class(labels, classes, index, activation=activation, label="all")
    assert found.tolist() == [False, True, True, True, True]
    chosen = int(labels[-1])
    found = of_class(labels, classes, index, activation=activation, label=chosen)
    assert found.tolist() == [False, False, False, False, True]


def test_a_single_label_is_the_class_but_doubted_where_it_is_the_number_of_another():
    for label, classes, index in ((255, CLASSES, 2), (2, CLASSES, 2), (2, CLASSES[:2], 1)):
        found = of_class(np.array([0, label]), classes, index)
        assert found.tolist() == [False, True]
    with pytest.warns(SegxaiWarning, match="label of the reference, 1, is taken as oedema, but is"):
        assert of_class(np.array([0, 1]), CLASSES, 2).tolist() == [False, True]
    assert of_class(np.array([0, 1]), CLASSES, 2, label=1).tolist() == [False, True]
    drawn = np.array([False, True])
    assert of_class(drawn, CLASSES, 2).tolist() == [False, True]


def test_a_label_that_is_not_there_is_refused():
    with pytest.raises(
        SegxaiError, match="reference_label=4: the reference has the labels 1, 2, 3"
    ):
        of_class(LABELS, CLASSES, 2, label=4)
    with pytest.raises(SegxaiError, match="reference_label=4 belongs to reference: give that, too"):
        of_class(None, CLASSES, 2, label=4)
    assert of_class(None, CLASSES, 2) is None


def test_a_model_of_any_class_takes_all_labels():
    assert of_class(LABELS, CLASSES, None).tolist() == [False, True, True, True, True]


@pytest.mark.usefixtures("toys")
def test_labels_on_the_command_line(case):
    numbered = np.zeros(picture().shape[1:], dtype=np.int16)
    for number, (centre, _) in enumerate(BALLS, start=1):
        numbered[centre] = number
    write_nifti("reference.nii.gz", numbered)
    command = ["run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz", "--method", "gradcam++"]
    command += ["--reference", "reference.nii.gz", "--out", "r.h5", "--overwrite"]
    wanted = "the reference has the labels 1, 2, 3, 4, and which of them is ball is not known: give"
    assert segxai(*command).error.startswith(f"{wanted} --reference-label with one of them")
    for label, hits in (("3", 1), ("all", 4)):
        assert segxai(*command, "--reference-label", label).status == 0
        with hdf5.open_result("r.h5") as tree:
            outcomes = tree["instances/outcome"].values.tolist()
            target = provenance_of(tree.to_dataset())["target"]
        assert sorted(outcomes) == ["FP"] * (4 - hits) + ["TP"] * hits
        assert target["reference_label"] == (label if label == "all" else int(label))
    assert segxai("rerun", "r.h5").status == 0
    error = segxai(*command, "--reference-label", "ball").error
    assert error == "--reference-label ball: give a label such as 2, or all"


# --------------------------------------------------------------------------------- what vanishes


def coarse_case(source, spacing):
    grid = working_grid(source, spacing)
    return Case(
        name="c",
        image=np.zeros((1, *grid.shape), dtype=np.float32),
        channels=("a",),
        grid=grid,
        foreground=np.ones(grid.shape, dtype=bool),
        source_grid=source,
    )


def test_objects_that_vanish_on_a_coarse_grid_are_said(tmp_path):
    source = Grid.unit((12, 12, 12))
    drawn = np.zeros(source.shape, dtype=np.uint8)
    drawn[0:3, 0:3, 0:3] = 1  # a whole voxel of the network
    drawn[4, 4, 4] = 1  # its centre is that of a voxel
    drawn[6, 6, 6] = drawn[7, 7, 6] = 1  # one object by its edge, beside a centre
    drawn[9, 9, 11] = 1
    path = write_nifti(tmp_path / "reference.nii.gz", drawn)
    with pytest.warns(SegxaiWarning, match="2 of the 4 objects in reference reference.nii.gz van"):
        case = with_reference(coarse_case(source, 3.0), path)
    assert np.argwhere(case.reference).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert case.warnings == (
        "2 of the 4 objects in reference reference.nii.gz vanish on the network's grid of 4 x 4 x "
        "4 voxels: they are smaller than its voxels, or lie where it sees nothing",
    )
    assert with_reference(coarse_case(source, 1.0), path).warnings == ()
