"""The same maps by captum, MONAI, pytorch-grad-cam, torch-cam and segxai: cost and correctness.

Two lesions of the embedded case, explained by the embedded model on one patch that holds both. Each
call below makes the map of the first lesion in a process of its own, for its memory and its
seconds, then that of the second. The maps are compared with a literal computation:

  correlation  with the exact map, over the patch
  factor 1, 2  by which the exact map must be multiplied (least squares), for each lesion: they are
               equal if the scale of maps is kept
  sign         share of the exact map (by magnitude) whose sign is kept
  negative     whether any value is below 0; a heat map has none
  instance     difference between the maps of the two lesions, relative to the first

Heat maps called Grad-CAM++ are compared with Eqs. 8 to 10 of the paper, those called Grad-CAM with
the original Grad-CAM of the lesion's summed logits. Calls with "class" in their names explain a
whole class, the library's own way to choose. A library that is not installed or fails is named,
with the error that it raised. To install all of them: pip install --group bench

    python benchmarks/peers.py [--patch 96] [--copies 10] [--json FILE]
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segxai import Instance
from segxai.errors import one_line
from segxai.instances import find_instances
from segxai.plugins.registry import load_adapter
from segxai.segment.inference_mode import exact_arithmetic
from segxai.segment.predict import segment
from workbench import libraries, references
from workbench.clock import in_turns, spread
from workbench.memory import apart, peak_bytes
from workbench.references import Scene
from workbench.report import finish, mebibytes, options, save, table

ADAPTER = load_adapter("ms_lesion")
Call = Callable[[nn.Module, Scene, Instance], Tensor]

KINDS: dict[str, tuple[Call, dict[str, Call]]] = {
    "mean gradient": (
        references.exact_gradient,
        {
            "segxai InstanceGradient": libraries.segxai_mean,
            "captum Saliency": libraries.captum_saliency,
            "captum Saliency, abs=False": libraries.captum_saliency_signed,
            "monai VanillaGrad, class": libraries.monai_gradient_of_class,
            "monai VanillaGrad": libraries.monai_gradient,
        },
    ),
    "SmoothGrad": (
        references.exact_smoothgrad,
        {
            "another draw, literally": references.other_draw,
            "segxai SeededNoiseTunnel": libraries.segxai_smoothgrad,
            "captum NoiseTunnel": libraries.captum_smoothgrad,
            "captum NoiseTunnel, abs=False": libraries.captum_smoothgrad_signed,
            "monai SmoothGrad": libraries.monai_smoothgrad,
            "monai SmoothGrad, magnitude=False": libraries.monai_smoothgrad_signed,
        },
    ),
    "Grad-CAM": (
        references.exact_gradcam,
        {
            "captum LayerGradCam": libraries.captum_gradcam,
            "monai GradCAM, class": libraries.monai_gradcam_of_class,
            "monai GradCAM": libraries.monai_gradcam,
            "monai GradCAM, no postprocessing": libraries.monai_gradcam_as_it_is,
            "pytorch-grad-cam GradCAM": libraries.pytorch_gradcam,
            "torch-cam GradCAM": libraries.torchcam_gradcam,
            "torch-cam GradCAM, not normalized": libraries.torchcam_gradcam_as_it_is,
        },
    ),
    "Grad-CAM++": (
        references.exact_gradcampp,
        {
            "segxai InstanceGradCamPlusPlus": libraries.segxai_gradcam,
            "monai GradCAMpp, no postprocessing": libraries.monai_gradcampp,
            "pytorch-grad-cam GradCAMPlusPlus": libraries.pytorch_gradcampp,
            "pytorch-grad-cam HiResCAM": libraries.pytorch_hirescam,
            "torch-cam GradCAMpp, not normalized": libraries.torchcam_gradcampp,
        },
    ),
}


@dataclass(frozen=True)
class Figure:
    """The cost of one call, and what its maps keep of the exact ones."""

    kind: str
    call: str
    seconds: float
    fastest: float
    slowest: float
    peak_bytes: int
    correlation: float
    factors: tuple[float, float]
    sign: float
    negative: bool
    instance: float

    @property
    def line(self) -> list[str]:
        """The cells of its line in the table."""
        return [
            self.call,
            f"{self.seconds:.2f}",
            f"{self.fastest:.2f} to {self.slowest:.2f}",
            mebibytes(self.peak_bytes),
            f"{self.correlation:.3f}",
            *(f"{factor:.3g}" for factor in self.factors),
            f"{self.sign:.0%}",
            "yes" if self.negative else "no",
            f"{self.instance:.2f}",
        ]


def main() -> None:
    """Measure every call of every kind."""
    asked = arguments()
    scene = made(asked.patch, asked.copies)
    first, second = (len(one.voxels) for one in scene.lesions)
    print(f"lesions of {first} and {second} voxels in a patch of {asked.patch}^3")
    figures: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for kind, (reference, calls) in KINDS.items():
        exact = [reference(ADAPTER.load_network(), scene, one) for one in scene.lesions]
        done = []
        for name in (name for name in calls if asked.calls in name):
            try:
                measured = apart(attempt, kind, name, scene, asked.rounds)
            except Exception as error:  # whatever a library raises is its result
                failed[name] = f"{type(error).__name__}: {one_line(error)}"
                continue
            done.append(judged(kind, name, measured, exact))
        show(kind, done)
        figures += [asdict(one) for one in done]
        save("peers", asked, {"calls": figures, "failed": failed})
    for name, reason in failed.items():
        print(f"left out: {name}: {reason}")
    finish("peers", asked, {"calls": figures, "failed": failed})


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--patch", type=int, default=96, help="voxels along each axis, a multiple of 8")
    add("--copies", type=int, default=10, help="number of noisy copies")
    add("--rounds", type=int, default=3)
    add("--calls", default="", metavar="TEXT", help="only those with this text in their names")
    return parser.parse_args()


def made(patch: int, copies: int) -> Scene:
    """Cut a patch from the embedded case that holds its largest lesion and the next largest."""
    case = ADAPTER.embedded_case()
    predictor = ADAPTER.predict(ADAPTER.load_network(), case, ADAPTER.criteria)
    criteria = ADAPTER.criteria
    mask = segment(predictor, case, ADAPTER.classes).mask(criteria.logit, criteria.threshold)
    found = find_instances(mask, case.grid, criteria)
    middle = found[0].voxels.mean(axis=0).astype(int)
    start = np.clip(middle - patch // 2, 0, np.array(case.grid.shape) - patch)
    moved = [one.voxels - start for one in found]
    inside = [voxels for voxels in moved if voxels.min() >= 0 and voxels.max() < patch]
    if len(inside) < 2:
        raise SystemExit(f"a patch of {patch}^3 holds fewer than two lesions: give a larger one")
    first, second = (Instance(k + 1, voxels) for k, voxels in enumerate(inside[:2]))
    crop = case.image[(slice(None), *(slice(a, a + patch) for a in start))]
    image = np.ascontiguousarray(crop[None], dtype=np.float32)
    return Scene(image, (first, second), copies, ADAPTER.layer or "")


def attempt(kind: str, name: str, scene: Scene, rounds: int) -> dict[str, Any]:
    """Measure one call's maps, seconds and memory; meant to run in a process of its own."""
    torch.manual_seed(0)
    network, call = ADAPTER.load_network(), KINDS[kind][1][name]
    first, second = scene.lesions
    kept: list[Tensor] = []
    with exact_arithmetic():
        references.exact_gradient(network, scene, first)  # warms up
        peak = peak_bytes(lambda: kept.append(call(network, scene, first).detach()))
        times = in_turns({"": lambda: call(network, scene, first)}, rounds)[""]
        kept.append(call(network, scene, second).detach())
    return {"peak_bytes": peak, **spread(times), "maps": [one.numpy() for one in kept]}


def judged(kind: str, name: str, measured: dict[str, Any], exact: list[Tensor]) -> Figure:
    """Compare the maps of a call with the exact ones."""
    found = [torch.from_numpy(one) for one in measured.pop("maps")]
    pairs = [compared(one, wanted) for one, wanted in zip(found, exact, strict=True)]
    (correlation, factor, sign), (_, second, _) = pairs
    return Figure(
        kind=kind,
        call=name,
        **measured,
        correlation=correlation,
        factors=(factor, second),
        sign=sign,
        negative=bool((found[0] < 0).any()),
        instance=float((found[0] - found[1]).norm() / found[0].norm()),
    )


def compared(found: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """Compute correlation, least-squares factor, and share of the magnitude with the same sign."""
    if found.shape != exact.shape:
        raise SystemExit(f"a map of shape {tuple(found.shape)} instead of {tuple(exact.shape)}")
    one, wanted = found.flatten().double(), exact.flatten().double()
    correlation = torch.corrcoef(torch.stack([one, wanted]))[0, 1]
    factor = (one @ wanted) / (wanted @ wanted)
    same = wanted.abs()[one.sign() == wanted.sign()].sum() / wanted.abs().sum()
    return float(correlation), float(factor), float(same)


def show(kind: str, figures: list[Figure]) -> None:
    """Print one kind of map."""
    head = ["call", "seconds", "rounds", "peak", "correlation", "factor 1", "factor 2"]
    lines = [one.line for one in figures]
    table(kind, [*head, "sign", "negative", "instance"], lines)


if __name__ == "__main__":
    main()
