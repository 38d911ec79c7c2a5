"""The figures of a comparison say what the tables say, and signs are exported as maps are."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segxai.compare.matrix import draw_matrix
from segxai.compare.measures import MEASURES
from segxai.report.strips import Seen, draw_strip
from tests.commandline import segxai
from tests.compare.results import CHANNELS, DOMAINS, SHAPE, case_of, how, noise, write
from tests.report.test_figures import DOMAIN, SPACING, image

PAIR = {"first": "a", "second": "b"}


def summary(**more):
    rows = [
        {**PAIR, "channel": channel, "metric": metric, "unit": unit, "instances": 3, "patients": 1,
         "value": value, "low": np.nan, "high": np.nan, "floor": 0.1, "ceiling": 0.9, **more}
        for channel, metric, unit, value in (
            ("flair", "spearman", "", 0.5), ("t1", "spearman", "", 0.25),
            ("flair", "peak_distance", "mm", 7.0), ("t1", "peak_distance", "mm", np.nan),
        )
    ]  # fmt: skip
    return pd.DataFrame([*rows, {**rows[0], "second": "", "metric": "energy_inside"}])


def points(panel, marker):
    return [line.get_xdata()[0] for line in panel.lines if line.get_marker() == marker]


def test_the_matrix_shows_means_between_floor_and_ceiling():
    figure = draw_matrix(summary(), "title")
    ranks, peaks = figure.axes
    assert ranks.get_title() == "Spearman"
    assert peaks.get_title() == "peaks apart, mm"
    assert points(ranks, "o") == [0.5, 0.25]
    assert points(ranks, "|") == [0.1, 0.1]
    assert points(ranks, "d") == [0.9, 0.9]
    assert points(peaks, "o") == [7.0]
    assert [text.get_text() for text in ranks.get_yticklabels()] == ["a\nb"]
    ends = [line.get_xdata().tolist() for line in ranks.lines if line.get_linewidth() == 5]
    assert ends == [[0.1, 0.9], [0.1, 0.9]]


def test_the_matrix_has_a_column_for_each_measure_and_a_row_for_each_pair():
    rows = [
        {**row, "metric": measure.name, "second": second}
        for row in summary(floor=np.nan).to_dict("records")[:1]
        for measure in MEASURES
        for second in ("b", "$c")
    ]
    figure = draw_matrix(pd.DataFrame(rows), "a title with $ signs")
    assert [panel.get_title() for panel in figure.axes] == [one.title for one in MEASURES]
    assert len(points(figure.axes[0], "o")) == 2
    figure.canvas.draw()


def seen(*sizes):
    values = np.zeros((2, *DOMAIN.shape), dtype=np.float32)
    values[:, DOMAIN] = 1
    return [Seen(f"run {size}", size * values, DOMAIN) for size in sizes]


def strip(unit, *sizes):
    options = {"channels": ["flair", "t1"], "spacing": SPACING, "title": "instance 1"}
    return draw_strip(image(2), seen(*sizes), unit=unit, **options)


def shown(panel):
    return panel.images[1].get_array().max(), panel.images[1].norm.vmax


def test_a_strip_has_one_scale_where_units_are_the_same():
    figure = strip("logit", 1, 4)
    *panels, bar = figure.axes
    assert len(panels) == 6  # two channels; the whole slice and two runs
    assert [panel.get_title() for panel in panels[:3]] == ["axial, whole", "run 1", "run 4"]
    assert [shown(panel) for panel in panels[1:3]] == [(1, 4), (4, 4)]
    assert bar.get_ylabel() == "logit"


def test_a_strip_has_a_scale_for_each_run_where_units_differ():
    figure = strip(None, 1, 4)
    assert len(figure.axes) == 6
    assert [shown(panel) for panel in figure.axes[1:3]] == [(1, 1), (4, 4)]
    for panel, end in zip(figure.axes[1:3], ("±1", "±4"), strict=True):
        assert end in [text.get_text() for text in panel.texts]


@pytest.fixture
def three(folder):
    for number in (1, 2, 3):
        write(f"{number}.h5", {"r": (how(seed=number), noise(number))})
    write("cam.h5", {"cam": (how(method="cam"), noise(4, channels=0))}, unit="arbitrary")
    return ["1.h5", "2.h5", "3.h5", "cam.h5"]


def test_the_command_draws_and_exports_signs(three):
    done = segxai("compare", *three, "--out", "out", "--pictures", "1")
    assert done.status == 0, done.err
    drawn = sorted(path.name for path in Path("out").glob("*.png"))
    assert drawn == ["matrix.png", "strip-1.png"]
    for name in (*drawn, "signs/signs-1.png"):
        with Image.open(Path("out", name)) as picture:
            assert min(picture.size) > 200
    listed = sorted(path.name for path in Path("out/signs").glob("*.nii.gz"))
    assert listed == [f"signs-{n}-{channel}.nii.gz" for n in DOMAINS for channel in CHANNELS]
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    for label, mask in DOMAINS.items():
        steps = voxels[..., None, :] - np.argwhere(mask)
        near = np.linalg.norm(steps, axis=-1).min(axis=-1) <= 20
        signs = np.stack([np.sign(noise(number)(label, mask)) for number in (1, 2, 3)])
        expected = np.where((signs == signs[0]).all(axis=0) & near, signs[0], 0)
        for channel, one in zip(CHANNELS, expected, strict=True):
            found = nib.load(f"out/signs/signs-{label}-{channel}.nii.gz").get_fdata()
            np.testing.assert_array_equal(found, one)


def test_without_pictures_there_are_tables_and_signs(three):
    assert segxai("compare", *three[:2], "--out", "out", "--pictures", "0").status == 0
    assert [path.name for path in Path("out").rglob("*.png")] == ["matrix.png"]


def test_pictures_of_pictures(folder):
    shape = (40, 50)
    mask = np.zeros(shape, dtype=bool)
    mask[10:14, 20:25] = True
    for number in (1, 2):
        runs = {"r": (how(seed=number), noise(number))}
        write(f"{number}.h5", runs, case=case_of(shape), domains={1: mask})
    done = segxai("compare", "1.h5", "2.h5", "--out", "out")
    assert done.status == 0, done.err
    names = sorted(str(path.relative_to("out")) for path in Path("out").rglob("s*-1*"))
    assert names == [
        "signs/signs-1-flair.tif",
        "signs/signs-1-mprage.tif",
        "signs/signs-1.png",
        "strip-1.png",
    ]
