"""The learning curve of runs that continue each other, from logs made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from segxai_ms_lesion.recipe.curve import draw_curve, read_runs

from segxai.errors import SegxaiError


def log(path: Path, *validations: tuple[float, float, float]) -> Path:
    """Write minutes, quality and Dice of the heavy phantoms, after a library's warning."""
    lines = ["/some/library.py:1: UserWarning: {not JSON}"]
    for minutes, quality, dice in validations:
        groups = {"light": [0.9, 0, 0, 0], "heavy": [dice, 0, 0, 0]}
        lines.append(json.dumps({"minutes": minutes, "quality": quality, "groups": groups}))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    first = log(tmp_path / "first.log", (30.0, 0.5, 0.3), (90.0, 0.6, 0.4))
    return [first, log(tmp_path / "second.log", (60.0, 0.7, 0.5))]


def test_a_run_begins_where_the_one_before_it_ended(logs: list[Path]) -> None:
    assert [[one["hours"] for one in run] for run in read_runs(logs)] == [[0.5, 1.5], [2.5]]


def test_a_log_without_validations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegxaiError, match=r"empty\.log has no line of JSON"):
        read_runs([log(tmp_path / "empty.log")])


def test_quality_and_dice_are_drawn_over_hours(
    logs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def noted(figure: Figure, path: Path, **options: object) -> None:
        figures.append(figure)
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", noted)
    draw_curve(read_runs(logs), "a network", tmp_path / "curve.png")
    lines = {line.get_label(): line.get_xydata() for line in figures[0].axes[0].get_lines()}
    np.testing.assert_allclose(lines["quality"], [[0.5, 0.5], [1.5, 0.6], [2.5, 0.7]])
    np.testing.assert_allclose(lines["Dice, heavy"], [[0.5, 0.3], [1.5, 0.4], [2.5, 0.5]])
    assert [set(xy[:, 0]) for label, xy in lines.items() if label.startswith("_")] == [{1.5}]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
