"""Seconds and memory of a lesion's signed max: segxai's engines against the published loop.

The same patch, network and lesion for all, in turns, in one run, on one noiseless copy (N = 1); a
way's cost is one forward pass, all rows of the lesion and their fold. Before any time is printed,
every way's rows are compared with the loop's: all of them up to 93 voxels, 64 seeded ones above.
Ways whose cost is a sum over voxels (loop, dense) are timed on at most 64 rows and extrapolated:
~ marks these. Memory is the peak beyond the network and the image, in a process of its own.

The defaults take some minutes on two cores. The full set takes many hours on a CPU:

    python benchmarks/rows.py --networks all --voxels 33,93,500,2000
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from segxai.segment.inference_mode import exact_arithmetic
from workbench import engines, lesions
from workbench.clock import in_turns, spread
from workbench.memory import apart, peak_bytes
from workbench.networks import REAL, SUBJECTS, Setting, setting
from workbench.published import published_loop, published_rows
from workbench.report import finish, mebibytes, numbers, options, save, table, words

ALL_CHECKED = 93
SEEDED = 64
TOLERANCE = 1e-5
FEW = 4  # rows that show the memory of a way that holds one row at a time


@dataclass(frozen=True)
class Figure:
    """One line of the table; times are of the whole lesion, errors relative to the peak.

    `faster_than_the_loop` has a number for each round.
    """

    network: str
    voxels: int
    way: str
    timed_rows: int
    seconds: float
    fastest: float
    slowest: float
    faster_than_the_loop: list[float] | None
    error: float
    peak_bytes: int | None

    @property
    def line(self) -> list[str]:
        """The cells of its line in the table."""
        mark = "~" if self.timed_rows < self.voxels else ""
        ratio = self.faster_than_the_loop
        return [
            f"{self.network} {self.voxels} {self.way}",
            f"{mark}{self.seconds:.2f}",
            f"{mark}{self.fastest:.2f} to {self.slowest:.2f}",
            f"{mark}{1000 * self.seconds / self.voxels:.2f}",
            "" if ratio is None else f"{min(ratio):.1f}x to {max(ratio):.1f}x",
            f"{self.error:.1e}",
            mebibytes(self.peak_bytes),
        ]


def main() -> None:
    """Measure every network and lesion, and print one table."""
    asked = arguments()
    networks = list(REAL) if asked.networks == ["all"] else asked.networks
    figures: list[Figure] = []
    for name, count in product(networks, asked.voxels):
        print(f"{SUBJECTS[name].title}: {count} voxels", flush=True)
        figures += measure(name, count, asked)
        save("rows", asked, [asdict(one) for one in figures])
    show(figures)
    finish("rows", asked, [asdict(one) for one in figures])


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--networks", type=words, default=["unet", "embedded"], help=f"{','.join(SUBJECTS)} or all")
    add("--voxels", type=numbers, default=[33, 93], help="sizes of the lesion: 33,93,500,2000")
    add("--ways", type=words, help="loop,dense,windowed,lowrank; default: those that suit")
    add("--timed-rows", type=int, default=64, help="for ways that are extrapolated")
    add("--rounds", type=int, default=3)
    add("--batch", type=int, help="rows at once; segxai's own choice if not given")
    add("--tolerance", type=float, default=3e-3, help="of low rank, relative to the peak")
    add("--device", default="cpu", help="such as cuda")
    add("--no-memory", action="store_true", help="leave the peak memory out")
    return parser.parse_args()


def show(figures: list[Figure]) -> None:
    """Print the figures as a table."""
    head = ["network, voxels, way", "s a lesion", "rounds", "ms a row", "faster", "error", "peak"]
    table("rows of one noiseless copy; ~ is extrapolated", head, [one.line for one in figures])


def measure(name: str, count: int, asked: argparse.Namespace) -> list[Figure]:
    """Check all ways on one network and one lesion, time them, and measure their memory."""
    scene = setting(name, asked.device)
    voxels = lesions.ball(scene.subject.patch, count)
    ways = asked.ways or suitable(scene)
    with exact_arithmetic():
        errors = check(scene, voxels, ways, asked)
        times = timed(scene, voxels, ways, asked)
    loop = times.get("loop")
    return [
        Figure(
            network=name,
            voxels=count,
            way=way,
            timed_rows=len(shortened(scene, voxels, way, asked.timed_rows)),
            **spread(times[way]),
            faster_than_the_loop=loop and quotients(loop, times[way]),
            error=errors[way],
            peak_bytes=None if asked.no_memory else apart(weigh, name, count, way, asked),
        )
        for way in ways
    ]


def quotients(above: list[float], below: list[float]) -> list[float]:
    """Divide the seconds of one way by those of another in the same round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def suitable(scene: Setting) -> list[str]:
    """List the ways worth timing: windows for rows that keep to a box, low rank for the others."""
    ours = ["dense", "windowed" if scene.subject.local else "lowrank"]
    return ["loop", *ours]


def shortened(scene: Setting, voxels: np.ndarray, way: str, most: int) -> np.ndarray:
    """Choose the voxels that a way is timed on: all, unless its cost is a sum over voxels."""
    adds_up = way in ("loop", "dense") or (way == "windowed" and not scene.subject.local)
    return lesions.sample(voxels, most) if adds_up else voxels


def engine_of(
    scene: Setting, voxels: np.ndarray, way: str, asked: argparse.Namespace
) -> engines.Make:
    """Choose the engine of one of segxai's ways."""
    return engines.chosen(scene, voxels, way, asked.batch, asked.tolerance)


def work(
    scene: Setting, voxels: np.ndarray, way: str, asked: argparse.Namespace
) -> Callable[[], Any]:
    """Prepare the job of making the map of these voxels in one way."""
    if way == "loop":
        return partial(published_loop, scene.network, scene.image, voxels)
    engine = engine_of(scene, voxels, way, asked)
    return partial(engines.signed_max, scene, voxels, engine)


def check(
    scene: Setting, voxels: np.ndarray, ways: list[str], asked: argparse.Namespace
) -> dict[str, float]:
    """Compute the largest error of each way's rows, relative to the peak of the loop's rows.

    Raises
    ------
    SystemExit
        If an exact way is not exact.
    """
    chosen = voxels if len(voxels) <= ALL_CHECKED else lesions.sample(voxels, SEEDED)
    wanted = torch.stack(list(published_rows(scene.network, scene.image, chosen)))
    errors = {"loop": 0.0}
    for way in (way for way in ways if way != "loop"):
        # Where rows are computed together, take all: batches are made from the whole lesion.
        short = len(shortened(scene, voxels, way, SEEDED)) < len(voxels)
        asked_for = chosen if short else voxels
        found = engines.batches(scene, asked_for, engine_of(scene, asked_for, way, asked))
        errors[way] = engines.largest_error(wanted, found, len(asked_for))
        if way != "lowrank" and not errors[way] <= TOLERANCE:
            raise SystemExit(f"{way} rows differ from the loop's by {errors[way]:.1e} of the peak")
    if "lowrank" in errors:
        print(f"low rank: error {errors['lowrank']:.1e} for a tolerance of {asked.tolerance:.0e}")
    return errors


def timed(
    scene: Setting, voxels: np.ndarray, ways: list[str], asked: argparse.Namespace
) -> dict[str, list[float]]:
    """Time the whole lesion for each way and round, in turns."""
    parts = {way: shortened(scene, voxels, way, asked.timed_rows) for way in ways}
    jobs = {way: work(scene, part, way, asked) for way, part in parts.items()}
    jobs["forward"] = partial(forward, scene)
    found = in_turns(jobs, asked.rounds, asked.device)
    return {
        way: [
            whole_lesion(seconds, once, len(part), len(voxels))
            for seconds, once in zip(found[way], found["forward"], strict=True)
        ]
        for way, part in parts.items()
    }


def forward(scene: Setting) -> torch.Tensor:
    """Run the forward pass with its graph, which every way does once."""
    return scene.network(scene.image.clone().requires_grad_())


def whole_lesion(seconds: float, once: float, timed_rows: int, rows: int) -> float:
    """Extrapolate the seconds of some rows to all; `once` of them do not depend on their number."""
    if timed_rows == rows:
        return seconds
    return once + max(seconds - once, 0.0) / timed_rows * rows


def weigh(name: str, count: int, way: str, asked: argparse.Namespace) -> int:
    """Measure the peak memory of one way."""
    scene = setting(name, asked.device)
    voxels = lesions.ball(scene.subject.patch, count)
    warm = work(scene, voxels[:1], "loop", asked)
    # On a GPU the dense way computes rows together; on a CPU it holds one at a time.
    part = shortened(scene, voxels, way, FEW if scene.image.device.type == "cpu" else SEEDED)
    with exact_arithmetic():
        warm()
        return peak_bytes(work(scene, part, way, asked), asked.device)


if __name__ == "__main__":
    main()
