"""What is promised before a run is what it takes, on every plugin."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segxai.geometry import Box, Grid
from segxai.pipeline import explain_case, survey
from segxai.plugins.registry import load_adapter
from segxai.run import resume
from segxai.run.device import peak_memory_bytes
from segxai.run.options import Balls, Options
from segxai.run.prepare import prepare
from segxai.store.hdf5 import open_result
from segxai.store.reader import maps

RUN = "smoothgrad-signed_max"
VOLUMES = {"ms_lesion": 96, "nnunet": 64, "swin_unetr": 64}  # and one window of each network


def window_of(case, size):
    """A case of one window around a lesion of the reference, and a ball in it."""
    centre = np.argwhere(case.reference)[0]
    start = np.clip(centre - size // 2, 0, np.subtract(case.grid.shape, size))
    box = Box(tuple(start.tolist()), (size,) * 3)
    affine = case.grid.affine.copy()
    affine[:3, 3] = case.grid.to_mm(start)
    grid = Grid(box.size, affine)
    middle = grid.to_mm(np.array([size // 2] * 3))
    small = replace(
        case,
        image=case.image[box.index],
        foreground=case.foreground[box.index],
        grid=grid,
        source_grid=None,
        reference=None,
    )
    return small, Balls(((*middle.tolist(), 1.5),))


def task_of(plugin, **asked):
    adapter = replace(load_adapter(plugin), check_objects=lambda *_: ())
    case = adapter.embedded_case()
    if plugin in VOLUMES:
        case, asked["instances"] = window_of(case, VOLUMES[plugin])
    else:
        asked.setdefault("labels", (1, 2))
    return prepare(adapter, case, Options.of(**asked))


@pytest.fixture
def seconds_of_the_processor(monkeypatch):
    """Other programs on the machine change nothing about what is promised and measured."""
    for module in ("window_cost", "trial", "attribute"):
        monkeypatch.setattr(f"segxai.run.{module}.perf_counter", time.process_time)


@pytest.mark.usefixtures("seconds_of_the_processor")
@pytest.mark.parametrize("plugin", [*VOLUMES, "natural_image"])
def test_disk_time_and_memory_are_as_promised(plugin, folder):
    engine = "auto" if plugin != "nnunet" else "dense"
    task = task_of(plugin, samples=2, rows=4, engine=engine)
    Path("/proc/self/clear_refs").write_text("5")  # what tests before this one took is forgotten
    promised = survey(task).cost
    explain_case(task, Path("r.h5"))
    with open_result(Path("r.h5")) as tree:
        found = maps(tree, RUN)
        seconds = sum(found.facts(label)["seconds"] for label in found)
    happened = {
        "disk": Path("r.h5").stat().st_size, "seconds": seconds, "memory": peak_memory_bytes(),
    }  # fmt: skip
    assert promised.disk_bytes == pytest.approx(happened["disk"], rel=0.2)
    assert 0.5 < promised.seconds / happened["seconds"] < 2
    assert 0.7 < promised.memory_bytes / happened["memory"] < 1.4


@pytest.mark.parametrize(
    "asked", [{"instances": Balls(((150.0, 150.0, 3.0),))}, {"rows": 8}], ids=["all rows", "some"]
)
def test_the_state_of_an_instance_in_work_is_as_large_as_promised(folder, monkeypatch, asked):
    sizes, save = [], resume.save

    def saved(tensors, words):
        sizes.append(len(save(tensors, words)))
        return save(tensors, words)

    monkeypatch.setattr(resume, "save", saved)
    monkeypatch.setattr(resume, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(resume, "SHARE_FOR_KEEPING", float("inf"))
    monkeypatch.setattr("segxai.run.cost.SECONDS_BETWEEN", 0.0)
    task = task_of("natural_image", samples=2, labels=(1,), **asked)
    promised = survey(task).cost.state_bytes
    explain_case(task, Path("r.h5"))
    assert max(sizes) <= promised <= 2 * max(sizes)
