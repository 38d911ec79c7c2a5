"""A whole patient: all lesions that the embedded model finds, by segxai and by the published loop.

The model segments one patient of open_ms, and finds the lesions. Where a voxel of one lies in
several windows, its row is the sum of its gradients in all of them; both ways compute that. Each
lesion is timed on one noiseless copy and a few of its rows, in turns, on its own windows; ~ marks
what is extrapolated: to all its rows, and at the end to the paper's 50 copies. Where there are many
lesions, only a few are timed, evenly spaced in the order of their sizes; rows of the others are
taken to cost as much as those of the lesion nearest in size.

The images are not part of the project: without them the script says so and ends.

    python benchmarks/patient.py [--data ../shared/data/open_ms] [--patient patient26] [--json FILE]
"""

import argparse
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segxai import Instance, InstanceGradient, Predictor
from segxai.geometry import Box
from segxai.instances import find_instances
from segxai.plugins.registry import load_adapter
from segxai.segment.inference_mode import exact_arithmetic, frozen
from segxai.segment.predict import segment
from segxai.text import duration
from workbench.clock import in_turns, spread
from workbench.report import finish, options, save, table

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "open_ms"
COPIES = 50
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Figure:
    """One lesion: what was timed, and the seconds of a row and of the fixed part, for one copy."""

    label: int
    voxels: int
    windows: int
    passes: int
    timed_rows: int
    ours_timed_rows: int
    ours_fixed: float
    ours_a_row: float
    loop_fixed: float
    loop_a_row: float

    def ours(self, voxels: int) -> float:
        """Extrapolate the seconds of a lesion of this many voxels from this one."""
        return self.ours_fixed + voxels * self.ours_a_row

    def loop(self, voxels: int) -> float:
        """Extrapolate the same for the loop."""
        return self.loop_fixed + voxels * self.loop_a_row


def main() -> None:
    """Segment the patient, time some lesions, and extrapolate."""
    asked = arguments()
    folder = asked.data / asked.patient
    if not folder.is_dir():
        print(f"no images at {folder}: give their folder with --data; nothing is measured")
        return
    predictor, image, instances = found_in(folder, asked.device)
    sizes = [len(one.voxels) for one in instances]
    print(f"{asked.patient}: {len(instances)} lesions of {min(sizes)} to {max(sizes)} voxels")
    figures: list[Figure] = []
    for instance in spaced(instances, asked.lesions):
        figures.append(measure(predictor, image, instance, asked))
        save("patient", asked, {"lesions": [asdict(one) for one in figures]})
    show(figures)
    total = totals(figures, sizes)
    print(in_words(total, len(figures), len(instances)))
    finish("patient", asked, {"lesions": [asdict(one) for one in figures], "patient": total})


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=DATA, help="folder of open_ms")
    add("--patient", default="patient26", help="patient07 or patient26")
    add("--lesions", type=int, default=4, help="number timed, from the smallest to the largest")
    add("--rows", type=int, default=64, help="timed for each lesion")
    add("--loop-rows", type=int, default=4, help="timed for each lesion, by the loop")
    add("--rounds", type=int, default=2)
    add("--device", default="cpu", help="such as cuda")
    return parser.parse_args()


def found_in(folder: Path, device: str) -> tuple[Predictor, Tensor, list[Instance]]:
    """Return the embedded model's predictor, its input, and the lesions that it finds."""
    adapter = load_adapter("ms_lesion")
    files = {"flair": folder / "flair.nii.gz", "mprage": folder / "t1.nii.gz"}
    case = adapter.read(files)
    network = adapter.load_network().eval().requires_grad_(False).to(device)
    predictor = adapter.predict(network, case, adapter.criteria)
    criteria = adapter.criteria
    mask = segment(predictor, case, adapter.classes).mask(criteria.logit, criteria.threshold)
    instances = find_instances(mask, case.grid, criteria)
    if not instances:
        raise SystemExit(f"the model finds no lesion in {folder.name}")
    return predictor, torch.from_numpy(case.image)[None].to(device), instances


def spaced(instances: list[Instance], count: int) -> list[Instance]:
    """Choose instances evenly spaced in the order of their sizes, both ends included."""
    ordered = sorted(instances, key=lambda one: len(one.voxels))
    chosen = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[k] for k in np.unique(chosen)]


def measure(
    predictor: Predictor, image: Tensor, instance: Instance, asked: argparse.Namespace
) -> Figure:
    """Time both ways on one lesion, in turns, after comparing their maps of the same few rows."""
    local, box = predictor.crop_to(instance.voxels)
    crop, voxels = image[box.index], box.local(instance.voxels)
    # Neighbours, not a scattered sample: what a batch costs depends on how near its voxels are.
    order = np.argsort(np.linalg.norm(voxels - voxels.mean(axis=0), axis=1), kind="stable")
    near = voxels[order]
    parts = {"ours": near[: asked.rows], "loop": near[: asked.loop_rows]}
    with frozen(local.network), exact_arithmetic():
        compare(local, crop, parts["loop"])
        times = in_turns(
            {
                "one": partial(ours, local, crop, parts["ours"][:1]),
                "ours": partial(ours, local, crop, parts["ours"]),
                "windows": partial(forward_passes, local, crop),
                "loop": partial(loop, local, crop, parts["loop"]),
            },
            asked.rounds,
            asked.device,
        )
    seconds = {name: spread(each)["seconds"] for name, each in times.items()}
    more = len(parts["ours"]) - 1
    each = max(seconds["ours"] - seconds["one"], 0) / more if more else seconds["one"]
    fixed = max(seconds["one"] - each, 0)
    return Figure(
        label=instance.label,
        voxels=len(voxels),
        windows=len(local.layout.windows),
        passes=sum(int(window.contains(voxels).sum()) for window in local.layout.windows),
        timed_rows=len(parts["loop"]),
        ours_timed_rows=len(parts["ours"]),
        ours_fixed=fixed,
        ours_a_row=each,
        loop_fixed=seconds["windows"],
        loop_a_row=max(seconds["loop"] - seconds["windows"], 0) / len(parts["loop"]),
    )


def ours(predictor: Predictor, crop: Tensor, voxels: np.ndarray) -> Tensor:
    """Compute the signed max of these voxels by segxai, with the engine that it chooses itself."""
    method = InstanceGradient(predictor, "signed_max")
    found: Tensor = method.attribute(crop, instance=Instance(1, voxels))
    return found[0]


def loop(predictor: Predictor, crop: Tensor, voxels: np.ndarray) -> Tensor:
    """Compute the same one voxel at a time, over all windows that the lesion lies in."""
    passes = list(forward_passes(predictor, crop))
    best = torch.zeros_like(crop[0])
    for voxel in voxels:
        row = torch.zeros_like(best)
        for leaf, weighted, inside in passes:
            if inside.contains(voxel[None]).any():
                place = (0, 1, *inside.local(voxel[None])[0])
                (gradient,) = torch.autograd.grad(weighted[place], leaf, retain_graph=True)
                row[inside.index] += gradient[0]
        best = torch.where(row.abs() > best.abs(), row, best)
    return best


def forward_passes(predictor: Predictor, crop: Tensor) -> list[tuple[Tensor, Tensor, Box]]:
    """Compute every window's input, its logits times their share in the blend, and its place."""
    layout, found = predictor.layout, []
    for window in layout.windows:
        inside = window.inside(layout.shape)
        leaf = crop[inside.index].clone().requires_grad_()
        with torch.enable_grad():
            logits = predictor.window_logits(leaf, window)
            found.append((leaf, logits * layout.share(window).to(logits), inside))
    return found


def compare(predictor: Predictor, crop: Tensor, voxels: np.ndarray) -> None:
    """Stop if both ways do not make the same map; where extremes tie, either sign will do."""
    wanted = loop(predictor, crop, voxels).abs()
    error = float((ours(predictor, crop, voxels).abs() - wanted).abs().max() / wanted.max())
    if not error <= TOLERANCE:
        raise SystemExit(f"the maps of both ways differ by {error:.1e} of the peak")


def show(figures: list[Figure]) -> None:
    """Print the lesions that were timed."""
    lines = [
        [
            str(one.label),
            str(one.voxels),
            f"{one.passes / one.voxels:.1f}",
            str(one.ours_timed_rows),
            f"{1000 * one.ours_a_row:.1f}",
            f"{'~' if one.ours_timed_rows < one.voxels else ''}{one.ours(one.voxels):.1f}",
            str(one.timed_rows),
            f"{1000 * one.loop_a_row:.1f}",
            f"~{one.loop(one.voxels):.1f}",
            f"{one.loop(one.voxels) / one.ours(one.voxels):.1f}x",
        ]
        for one in figures
    ]
    each = ["rows timed", "ms a row", "s a copy"]
    head = ["lesion", "voxels", "windows", *each, *(f"loop {word}" for word in each), "faster"]
    table("one noiseless copy; ~ is extrapolated", head, lines)


def totals(figures: list[Figure], sizes: list[int]) -> dict[str, float]:
    """Sum the seconds of one copy of all lesions, each taken from the timed one nearest in size."""
    nearest = [min(figures, key=lambda one: abs(np.log(one.voxels / size))) for size in sizes]
    pairs = list(zip(nearest, sizes, strict=True))
    ours_seconds = sum(one.ours(size) for one, size in pairs)
    loop_seconds = sum(one.loop(size) for one, size in pairs)
    return {
        "lesions": len(sizes),
        "voxels": sum(sizes),
        "ours_seconds_a_copy": ours_seconds,
        "loop_seconds_a_copy": loop_seconds,
        "ours_seconds_of_all_copies": COPIES * ours_seconds,
        "loop_seconds_of_all_copies": COPIES * loop_seconds,
    }


def in_words(total: dict[str, float], timed: int, lesion_count: int) -> str:
    """Describe what the patient costs."""
    spent = {name: duration(total[f"{name}_seconds_of_all_copies"]) for name in ("ours", "loop")}
    return (
        f"extrapolated from {timed} of {lesion_count} lesions to all {total['voxels']:.0f} voxels "
        f"and {COPIES} copies: {spent['ours']} by segxai, {spent['loop']} by the loop"
    )


if __name__ == "__main__":
    main()
