"""Seconds and bytes of a result with many small instances: storing, opening, reading one map.

Computing a map is replaced by a pause, so that storing has the rhythm of a run. Seconds of the
processor are those that count on a busy machine.

    python benchmarks/store.py [--instances 10,100,1000,2000] [--pause 0.09] [--json FILE]
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.reader import maps
from segxai.store.schema import attribution_of
from segxai.store.writer import adding_maps
from segxai.types import Attribution, Case, Instance
from workbench.report import finish, numbers, options, save, table

SHAPE = (96, 96, 96)
BOX = (16, 16, 16)  # a small instance widened by what a small network sees
RUN = {"method": "pause", "aggregator": None, "score": "logit", "labels": "all", "started": "now"}

Figures = dict[str, float]


def main() -> None:
    """Store, open and read results of each size."""
    asked = arguments()
    figures: dict[str, Figures] = {}
    for count in asked.instances:
        with tempfile.TemporaryDirectory() as folder:
            figures[str(count)] = measure(Path(folder) / "r.h5", count, asked.pause)
        save("store", asked, figures)
    lines = [
        [
            count,
            *(f"{one[name]:.2f}" for name in ("storing", "storing CPU")),
            f"{one['storing CPU'] / (int(count) * asked.pause or 1):.1%}",
            *(f"{one[name]:.2f}" for name in ("opening", "opening CPU")),
            *(f"{1000 * one[name]:.0f}" for name in ("reading", "reading CPU")),
            f"{one['bytes'] / 1e6:.1f}",
        ]
        for count, one in figures.items()
    ]
    head = ["instances", "storing, s", "CPU, s", "of pauses", "opening, s", "CPU, s"]
    head += ["one map, ms", "CPU, ms", "MB"]
    table(f"storing maps, a pause of {1000 * asked.pause:.0f} ms before each", head, lines)
    finish("store", asked, figures)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    parser.add_argument("--instances", type=numbers, default=[10, 100, 1000, 2000])
    parser.add_argument("--pause", type=float, default=0.09, help="seconds before each map")
    return parser.parse_args()


def measure(path: Path, count: int, pause: float) -> Figures:
    """Store the maps of so many instances, open the result, and read one of them."""
    case, instances = many(count)
    logits = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype(np.float32)
    hdf5.create(path, case, Segmentation.of(logits, ("rest", "lesion")), instances, {})
    hdf5.start_run(path, "run", RUN)
    found: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        with timed("storing", found):
            writer = stack.enter_context(adding_maps(path, case))
        for instance in instances:
            sleep(pause)
            one = attribution(instance)
            with timed("storing", found):
                writer.add("run", one, instance)
        with timed("storing", found):
            stack.close()
    with timed("opening", found):
        tree = hdf5.open_result(path)
    with tree, timed("reading", found):
        attribution_of(maps(tree, "run")[count // 2 + 1])
    return {**found, "bytes": path.stat().st_size}


@contextmanager
def timed(name: str, found: dict[str, float]) -> Iterator[None]:
    """Add the seconds of a block, and those of the processor, to what was found."""
    started, cpu = perf_counter(), process_time()
    yield
    found[name] += perf_counter() - started
    found[f"{name} CPU"] += process_time() - cpu


def many(count: int) -> tuple[Case, list[Instance]]:
    """Make a case with so many cubes of 27 voxels, which may overlap."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    grid = Grid(SHAPE, np.eye(4))
    case = Case("many", image, ("flair", "t1"), grid, np.ones(SHAPE, dtype=bool))
    cube = np.argwhere(np.ones((3, 3, 3), dtype=bool))
    starts = rng.integers(8, 80, size=(count, 3))
    return case, [Instance(label, start + cube) for label, start in enumerate(starts, start=1)]


def attribution(instance: Instance) -> Attribution:
    """Make a map of noise around an instance: what compresses worst."""
    values = np.random.default_rng(instance.label).normal(size=(2, *BOX)).astype(np.float32)
    offset = tuple(int(first) - 6 for first in instance.voxels[0])
    facts = {"estimate": False, "rows": len(instance.voxels), "seconds": 0.09}
    return Attribution(instance.label, values, offset, np.abs(values), facts)


if __name__ == "__main__":
    main()
