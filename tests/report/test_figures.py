"""Pictures say what the arrays say: red is positive, right is on the left, one scale for all."""

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Bool, Float, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text

from segxai.errors import SegxaiError
from segxai.report.figures import Item, draw_instance, draw_overview
from segxai.report.sheet import save_figure

SHAPE = (50, 60, 40)
SPACING = (1.0, 1.0, 1.5)
CORNER = (20, 36, 22)
UNIT = "logit per standard deviation"


def image(channels: int, shape: tuple[int, ...] = SHAPE) -> Float[np.ndarray, "channel *grid"]:
    """Made-up channels: noise, with a border of background."""
    noise = np.random.default_rng(0).normal(0, 1, (channels, *shape)).astype(np.float32)
    inside = np.zeros(shape, dtype=bool)
    inside[(slice(2, -2),) * len(shape)] = True
    return noise * inside


def block(corner: tuple[int, ...], size: int, shape: tuple[int, ...]) -> Bool[np.ndarray, "*grid"]:
    """A domain: a cube."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


DOMAIN = block(CORNER, 5, SHAPE)


def instance(
    values: Float[np.ndarray, "*any"], channels: int = 2, center: tuple[int, ...] | None = None
) -> Figure:
    """The figure of the one instance."""
    return draw_instance(
        image(channels),
        values,
        DOMAIN,
        channels=[f"channel {index}" for index in range(channels)],
        title="Lesion 1",
        spacing=SPACING,
        unit=UNIT,
        center=center,
    )


def pixels(figure: Figure, panel: Axes) -> UInt8[np.ndarray, "row column 3"]:
    """What is drawn inside of a panel."""
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    box = panel.get_window_extent()
    rows = slice(round(len(drawn) - box.y1) + 2, round(len(drawn) - box.y0) - 2)
    return np.asarray(drawn[rows, round(box.x0) + 2 : round(box.x1) - 2, :3])


def redness(drawn: UInt8[np.ndarray, "row column 3"]) -> Float[np.ndarray, "row column"]:
    """Red minus blue."""
    return np.asarray(drawn[..., 0].astype(float) - drawn[..., 2])


def shown(panel: Axes, layer: int) -> Float[np.ndarray, "row column"]:
    """The numbers of a layer of a panel, the lowest first: 0 the image, 1 the map."""
    return np.asarray(panel.images[layer].get_array(), dtype=float)


def texts(figure: Figure) -> set[str]:
    """All that is written inside of panels."""
    return {text.get_text() for panel in figure.axes for text in panel.texts}


# -------------------------------------------------------------------------------------- instances


def test_positive_is_red_and_negative_is_blue() -> None:
    values = np.zeros((2, *SHAPE))
    values[:, DOMAIN] = [[0.02], [-0.01]]
    figure = instance(values)
    for panel in figure.axes[1:4]:
        drawn = redness(pixels(figure, panel))
        assert drawn.max() > 150
        assert drawn[drawn.shape[0] // 2, drawn.shape[1] // 2] > 150
    for panel in figure.axes[5:8]:
        drawn = redness(pixels(figure, panel))
        assert drawn[drawn.shape[0] // 2, drawn.shape[1] // 2] < -60


def test_the_scale_is_symmetric_and_shared() -> None:
    values = np.zeros((2, *SHAPE))
    values[0, DOMAIN], values[1, DOMAIN] = 0.02, -0.05
    figure = instance(values)
    norms = [panel.images[1].norm for panel in figure.axes if len(panel.images) == 2]
    assert len(norms) == 6
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(-0.05, 0.05)}
    colours = figure.axes[1].images[1].cmap
    assert colours(0.5)[3] == pytest.approx(0, abs=0.02)
    opacity = [colours(x)[3] for x in np.linspace(0.5, 1, 20)]
    assert opacity == sorted(opacity)
    np.testing.assert_allclose(opacity, [colours(x)[3] for x in np.linspace(0.5, 0, 20)], atol=0.03)


def test_the_colour_bar_names_the_unit_and_the_ends() -> None:
    values = np.zeros((2, *SHAPE))
    values[0, DOMAIN] = 0.02
    bar = instance(values).axes[-1]
    assert bar.get_ylabel() == UNIT
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert labels == ["-0.02", "-0.01", "0", "+0.01", "+0.02"]


def test_a_single_voxel_does_not_fade_the_others() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE))
    values[0, 0, 0, 0] = 1000
    assert instance(values).axes[1].images[1].norm.vmax == pytest.approx(1, abs=0.01)


def test_a_heat_map_has_one_scale_from_0_and_lies_over_all_channels() -> None:
    figure = instance(DOMAIN * 3.0)
    shown = [panel.images[1] for panel in figure.axes if len(panel.images) == 2]
    assert {(layer.norm.vmin, layer.norm.vmax) for layer in shown} == {(0, 3)}
    assert len(shown) == 6
    assert {layer.cmap.name for layer in shown} == {"segxai_heat"}


def test_the_domain_is_outlined_in_yellow() -> None:
    figure = instance(np.zeros((2, *SHAPE)))
    for panel in figure.axes[:8]:
        assert [isinstance(one, ContourSet) for one in panel.collections] == [True]
        drawn = pixels(figure, panel).astype(int)
        yellow = (drawn[..., 0] > 200) & (drawn[..., 1] > 170) & (drawn[..., 2] < 90)
        assert yellow.sum() > 20


def test_a_zero_map_leaves_the_picture_grey() -> None:
    figure = instance(np.zeros((2, *SHAPE)))
    drawn = pixels(figure, figure.axes[1])
    assert abs(redness(drawn)[:40]).max() < 8  # letters are a little blue
    assert figure.axes[1].images[1].norm.vmax == 1


def test_a_value_that_is_no_number_is_not_drawn() -> None:
    values = np.zeros((2, *SHAPE))
    values[0, DOMAIN] = 0.02
    values[1] = np.nan
    assert instance(values).axes[1].images[1].norm.vmax == pytest.approx(0.02)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_there_is_a_row_for_each_channel(channels: int) -> None:
    figure = instance(np.zeros((channels, *SHAPE)), channels)
    figure.canvas.draw()
    names = [panel.get_ylabel() for panel in figure.axes[: 4 * channels : 4]]
    assert names == [f"channel {index}" for index in range(channels)]
    heads = [panel.get_title() for panel in figure.axes[:4]]
    assert heads == ["axial, whole", "axial", "coronal", "sagittal"]


@pytest.mark.parametrize(
    ("panel", "marked", "side"),
    [
        (1, (0, 10), "left"),  # axial: the patient's right is on the left
        (1, (1, 10), "top"),  # front
        (2, (0, 10), "left"),
        (2, (2, 8), "top"),  # coronal: up
        (3, (1, 10), "left"),  # sagittal: front on the left
        (3, (2, 8), "top"),
    ],
)
def test_sides_are_where_radiologists_expect_them(
    panel: int, marked: tuple[int, int], side: str
) -> None:
    axis, step = marked
    corner = list(CORNER)
    corner[axis] += step
    values = np.zeros((2, *SHAPE))
    values[0, block(tuple(corner), 5, SHAPE)] = 1
    figure = instance(values)
    rows, columns = np.nonzero(redness(pixels(figure, figure.axes[panel])) > 150)
    middle = pixels(figure, figure.axes[panel]).shape[0] / 2
    assert (columns.mean() if side == "left" else rows.mean()) < middle - 20


def test_letters_name_the_sides() -> None:
    figure = instance(np.zeros((2, *SHAPE)))
    places = [
        {text.get_text(): text.get_position() for text in panel.texts} for panel in figure.axes[1:4]
    ]
    assert [set(place) - {"10 mm"} for place in places] == [set("RLAP"), set("RLSI"), set("APSI")]
    assert places[0]["R"][0] < 0.5 < places[0]["L"][0]
    assert places[0]["P"][1] < 0.5 < places[0]["A"][1]
    assert places[1]["I"][1] < 0.5 < places[1]["S"][1]
    assert places[2]["A"][0] < 0.5 < places[2]["P"][0]


def test_the_planes_go_through_the_voxel_nearest_to_the_centroid() -> None:
    marked = np.zeros((2, *SHAPE))
    marked[0, CORNER[0] + 2, CORNER[1] + 2, CORNER[2] + 2] = 1
    for panel in instance(marked).axes[1:4]:
        assert shown(panel, 1).max() == 1
    for panel in instance(marked, center=CORNER).axes[1:4]:
        assert shown(panel, 1).max() == 0


def test_background_is_black_also_where_0_is_the_mean() -> None:
    figure = instance(np.zeros((2, *SHAPE)))
    grey = shown(figure.axes[0], 0)
    assert not grey[:2].any()
    assert grey[2:-2, 2:-2].mean() == pytest.approx(0.5, abs=0.1)


def test_an_instance_larger_than_the_zoom_is_shown_whole() -> None:
    wide = np.zeros(SHAPE, dtype=bool)
    wide[:, 10:15, 10:15] = True
    figure = draw_instance(
        image(1),
        np.zeros((1, *SHAPE)),
        wide,
        channels="a",
        title="",
        spacing=(3.0, 1.0, 1.0),
        unit="",
    )
    right, left = figure.axes[1].get_xlim()
    assert left < 0
    assert right > 147


def test_a_domain_without_voxels_shows_the_middle() -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    values = np.zeros((1, *SHAPE))
    figure = draw_instance(
        image(1), values, empty, channels=["a"], title="", spacing=SPACING, unit=""
    )
    assert not any(panel.collections for panel in figure.axes[:4])


def test_a_picture_has_its_map_beside_it() -> None:
    shape = (40, 64)
    domain = block((5, 10), 8, shape)
    values = np.zeros((3, *shape))
    values[:, domain] = 1
    figure = draw_instance(
        image(3, shape), values, domain, channels="rgb", title="", spacing=(1.0, 1.0), unit=""
    )
    assert [panel.get_title() for panel in figure.axes[:3]] == ["image", "map", "map, enlarged"]
    assert [len(panel.images) for panel in figure.axes[:3]] == [1, 2, 2]
    rows, columns = np.nonzero(redness(pixels(figure, figure.axes[1])) > 150)
    size = len(pixels(figure, figure.axes[1]))
    assert rows.mean() < 0.45 * size  # the first row of a picture is at the top
    assert columns.mean() < 0.3 * size  # and its first column on the left
    assert not texts(figure)


def test_words_of_the_user_are_not_read_as_formulas_and_fit() -> None:
    values = np.zeros((1, *SHAPE))
    name = "lesion_$3$ " + 60 * "x"
    figure = draw_instance(
        image(1), values, DOMAIN, channels=[name], title=2 * name, spacing=SPACING, unit=name
    )
    figure.canvas.draw()
    title = figure.texts[0].get_window_extent()
    assert title.x1 < figure.bbox.x1
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert label.y0 > figure.bbox.y0
    assert label.y1 < figure.bbox.y1


# --------------------------------------------------------------------------------------- overviews


def items(sizes: tuple[int, ...]) -> list[Item]:
    """Instances of some sizes, side by side, each with a map of its own height."""
    found: list[Item] = []
    for number, size in enumerate(sizes):
        domain = block((8 * number + 3, 20, 20), size, SHAPE)
        values = np.zeros((2, *SHAPE))
        values[0, domain], values[1, domain] = number + 1.0, -0.5
        found.append((f"lesion {number}", values, domain))
    return found


def overview(found: object, rows: int = 4) -> Figure:
    """The overview of some items."""
    return draw_overview(
        image(2),
        found,  # type: ignore[arg-type]
        channels=["FLAIR", "MPRAGE"],
        spacing=SPACING,
        title="case",
        unit=UNIT,
        rows=rows,
    )


@pytest.mark.parametrize("kind", [list, iter])
def test_the_overview_has_the_largest_instances_first(kind: type) -> None:
    figure = overview(kind(items((2, 5, 3, 4))), rows=3)
    assert len(figure.axes) == 3 * 3 + 1
    labels = [panel.get_ylabel() for panel in figure.axes[:9:3]]
    assert labels == ["lesion 1", "lesion 3", "lesion 2"]
    heads = [panel.get_title() for panel in figure.axes[:3]]
    assert heads == ["FLAIR, whole", "FLAIR", "MPRAGE"]


def test_the_overview_has_one_scale_and_outlines_every_instance() -> None:
    figure = overview(items((2, 5, 3, 4)), rows=2)
    norms = [panel.images[1].norm for panel in figure.axes if len(panel.images) == 2]
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(-4, 4)}
    assert len(norms) == 4
    every, own = figure.axes[0].collections
    assert isinstance(every, ContourSet)
    assert isinstance(own, ContourSet)
    assert len(every.get_paths()[0].to_polygons()) == 3  # the smallest does not reach this slice
    assert len(own.get_paths()[0].to_polygons()) == 1


def test_an_overview_of_pictures_and_of_heat_maps() -> None:
    shape = (40, 64)
    domain = block((5, 10), 8, shape)
    figure = draw_overview(
        image(3, shape),
        [("car", domain * 2.0, domain)],
        channels="rgb",
        spacing=(1.0, 1.0),
        title="street",
        unit="heat",
    )
    figure.canvas.draw()
    assert [len(panel.images) for panel in figure.axes[:4]] == [1, 2, 2, 2]
    assert figure.axes[1].images[1].norm.vmin == 0


def test_an_overview_of_nothing_says_so() -> None:
    with pytest.raises(SegxaiError, match="case: no instance was explained"):
        overview([])


# -------------------------------------------------------------------------------------------- files


def test_a_saved_figure_is_the_same_png_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_figure(overview(items((3, 4))), tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()
    assert int.from_bytes(content[16:20], "big") == 1200


def test_drawing_leaves_pyplot_alone() -> None:
    import sys

    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_a_map_that_is_nowhere_0_keeps_its_scale() -> None:
    values = np.full((1, 100, 100, 40), 1e-3, dtype=np.float32)
    values[0, 50:52, 50:54, 20:24] = 1.0  # 32 voxels of 400 000
    domain = values[0] > 0.5
    image = np.ones_like(values)
    figure = draw_instance(
        image, values, domain, channels=["flair"], title="", spacing=(1.0, 1.0, 1.0), unit=""
    )
    assert figure.axes[1].images[1].norm.vmax == pytest.approx(1.0)


def test_settings_that_lie_in_the_current_folder_change_nothing(tmp_path, monkeypatch):
    """A matplotlibrc could start LaTeX, which runs what the file says."""
    monkeypatch.chdir(tmp_path)
    Path("matplotlibrc").write_text("text.usetex: True\nfont.size: 30\nsavefig.bbox: tight\n")
    values = np.random.default_rng(0).normal(size=(2, *SHAPE))
    save_figure(instance(values), "before.png")
    with rc_context(fname="matplotlibrc"):
        figure = instance(values)
        save_figure(figure, "after.png")
    assert not any(text.get_usetex() for text in figure.findobj(Text))
    assert Path("after.png").read_bytes() == Path("before.png").read_bytes()
