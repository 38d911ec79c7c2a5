"""Growth of time and peak memory with the lesion, the noisy copies, the patch and the instances.

Every point is measured in a process of its own: a short warm-up, then the work once for its memory
and a few times for its seconds. The table ends with the exponent of a power law fitted to each
column (the slope in a log-log plot): 1 is linear, 0 is flat. A fixed part, such as the forward
pass, lowers the slope at small sizes, so time is also fitted as fixed + part * size.

Fails if the peak memory of the largest lesion is more than 20 % above that of 93 voxels.

    python benchmarks/growth.py [--network unet] [--json FILE]
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from segxai import Instance, InstanceGradient, SeededNoiseTunnel
from segxai.segment.inference_mode import exact_arithmetic
from workbench import engines, lesions
from workbench.clock import in_turns, spread
from workbench.memory import apart, peak_bytes
from workbench.networks import SUBJECTS, Setting, setting
from workbench.report import finish, mebibytes, numbers, options, save, table

REFERENCE = 93
FLAT = 1.2  # times the peak memory of the reference


@dataclass(frozen=True)
class Point:
    """The cost of one size along one axis."""

    size: int
    seconds: float
    fastest: float
    slowest: float
    peak_bytes: int


@dataclass(frozen=True)
class Law:
    """The growth of both columns: exponents, and time as a fixed part and one per unit of size."""

    time_exponent: float
    memory_exponent: float
    fixed_seconds: float
    seconds_each: float


def main() -> None:
    """Measure the growth along all four axes, and judge the memory."""
    asked = arguments()
    figures: dict[str, Any] = {}
    for axis, sizes in {
        "voxels": asked.voxels,
        "copies": asked.copies,
        "patch": asked.patches,
        "instances": asked.instances,
    }.items():
        points = [apart(measured, axis, size, asked) for size in sizes]
        law = fitted(points)
        show(axis, points, law)
        figures[axis] = {
            "points": [asdict(one) for one in points],
            "law": asdict(law) if law else None,
        }
        save("growth", asked, figures)
    finish("growth", asked, figures)
    judge([Point(**one) for one in figures["voxels"]["points"]])


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--network", default="embedded", choices=SUBJECTS)
    add("--engine", default="windowed")
    add("--voxels", type=numbers, default=[33, 93, 250, 500, 1000, 2000], help="lesion sizes")
    add("--copies", type=numbers, default=[1, 2, 4, 8], help="noisy copies of 93 voxels")
    add("--patches", type=numbers, default=[48, 64, 80, 96], help="for a lesion of 93 voxels")
    add("--instances", type=numbers, default=[1, 2, 4, 8], help="of 33 voxels each")
    add("--rounds", type=int, default=3)
    add("--device", default="cpu", help="such as cuda")
    return parser.parse_args()


def measured(axis: str, size: int, asked: argparse.Namespace) -> Point:
    """Measure one point; meant to run in a process of its own."""
    scene = setting(asked.network, asked.device, patch=size if axis == "patch" else None)
    work = WORK[axis](scene, size, asked.engine)
    with exact_arithmetic():
        signed_max(scene, 1, asked.engine)()
        peak = peak_bytes(work, asked.device)
        times = in_turns({"": work}, asked.rounds, asked.device)[""]
    return Point(size, **spread(times), peak_bytes=peak)


def ball(scene: Setting, count: int) -> np.ndarray:
    """Choose the voxels of a lesion in the scene's patch."""
    return lesions.ball(scene.image.shape[-1], count)


def signed_max(scene: Setting, count: int, engine: str) -> Callable[[], Any]:
    """Prepare the job of making the map of a lesion of this many voxels."""
    voxels = ball(scene, count)
    return partial(engines.signed_max, scene, voxels, engines.chosen(scene, voxels, engine))


def of_voxels(scene: Setting, size: int, engine: str) -> Callable[[], Any]:
    """Prepare the rows of one lesion of this many voxels, and their fold."""
    return signed_max(scene, size, engine)


def of_patch(scene: Setting, size: int, engine: str) -> Callable[[], Any]:
    """Prepare the same for the reference's voxels; the size is that of the scene's patch."""
    return signed_max(scene, REFERENCE, engine)


def of_copies(scene: Setting, size: int, engine: str) -> Callable[[], Any]:
    """Prepare SmoothGrad of one lesion with this many noisy copies."""
    tunnel = SeededNoiseTunnel(InstanceGradient(scene.predictor, "signed_max", engine=engine))
    instance = Instance(1, ball(scene, REFERENCE))
    return partial(tunnel.attribute, scene.image, nt_samples=size, stdevs=0.05, instance=instance)


def of_instances(scene: Setting, size: int, engine: str) -> Callable[[], Any]:
    """Prepare the maps of this many lesions, one after the other."""
    method = InstanceGradient(scene.predictor, "signed_max", engine=engine)
    middle = ball(scene, 33)
    moved = [Instance(k + 1, middle + k % 5 - 2) for k in range(size)]

    def all_of_them() -> None:
        for instance in moved:
            method.attribute(scene.image, instance=instance)

    return all_of_them


WORK: dict[str, Callable[[Setting, int, str], Callable[[], Any]]] = {
    "voxels": of_voxels,
    "copies": of_copies,
    "patch": of_patch,
    "instances": of_instances,
}


def fitted(points: list[Point]) -> Law | None:
    """Fit exponents, and a straight line through the times; None for fewer than two points."""
    if len(points) < 2:
        return None
    size, seconds, peak = (
        np.array([getattr(one, name) for one in points], dtype=float)
        for name in ("size", "seconds", "peak_bytes")
    )
    # Relative errors weigh the same at all sizes: the largest must not decide alone.
    each, fixed = np.polyfit(size, seconds, 1, w=1 / seconds)
    return Law(exponent(size, seconds), exponent(size, peak), float(fixed), float(each))


def exponent(size: np.ndarray, cost: np.ndarray) -> float:
    """Fit the slope of the cost in a log-log plot."""
    return float(np.polyfit(np.log(size), np.log(np.maximum(cost, 1e-9)), 1)[0])


def show(axis: str, points: list[Point], law: Law | None) -> None:
    """Print the table of one axis."""
    lines = [
        [
            str(one.size),
            f"{one.seconds:.3f}",
            f"{one.fastest:.3f} to {one.slowest:.3f}",
            mebibytes(one.peak_bytes),
        ]
        for one in points
    ]
    if law:
        lines.append(["exponent", f"{law.time_exponent:.2f}", "", f"{law.memory_exponent:.2f}"])
    table(f"against {axis}", [axis, "seconds", "rounds", "peak"], lines)
    if law and axis != "patch":  # the cost of a patch goes with its volume
        print(f"seconds = {law.fixed_seconds:.3f} + {law.seconds_each:.5f} * {axis}", flush=True)


def judge(points: list[Point]) -> None:
    """Check that memory does not grow with the voxels of the lesion.

    Raises
    ------
    SystemExit
        If it is not.
    """
    peaks = {one.size: one.peak_bytes for one in points}
    if REFERENCE not in peaks or max(peaks) <= REFERENCE:
        return
    ratio = peaks[max(peaks)] / max(peaks[REFERENCE], 1)
    print(f"peak memory of {max(peaks)} voxels: {ratio:.2f} times that of {REFERENCE}")
    if ratio > FLAT:
        raise SystemExit(f"memory is not flat: more than {FLAT:g} times")


if __name__ == "__main__":
    main()
