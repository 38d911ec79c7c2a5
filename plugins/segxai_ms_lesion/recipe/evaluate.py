"""Score the 3D U-Net on a patient: `python -m segxai_ms_lesion.recipe.evaluate --help`.

The other networks for the same lesions have a `recipe.evaluate` of their own, which calls
`evaluate`. Patient 26 is there for this alone, and rarely.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors import safe_open
from torch import nn

from segxai import Adapter, Case, load_adapter, resample
from segxai.segment.predict import segment
from segxai.segment.segmentation import Segmentation
from segxai_ms_lesion.network import load_unet
from segxai_ms_lesion.recipe.scores import Scores, score

WithWeights = Callable[[Path], nn.Module]


def main() -> None:
    """Score the embedded 3D U-Net."""
    evaluate("ms_lesion", load_unet)


def evaluate(plugin: str, with_weights: WithWeights) -> None:
    """Read the command line; print a patient's scores as a line of JSON."""
    parser = argparse.ArgumentParser(description="Score a lesion network on a patient.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--patient", type=int, required=True)
    parser.add_argument("--checkpoint", type=Path, help="weights instead of the embedded ones")
    asked = parser.parse_args()
    adapter = embedded(plugin, with_weights, asked.checkpoint)
    folder = asked.data / f"patient{asked.patient:02d}"
    names = zip(adapter.files, ("flair.nii.gz", "t1.nii.gz"), strict=True)
    case = adapter.read({name: folder / file for name, file in names}, folder / "gt.nii.gz")
    columns = scored(adapter, case).columns
    print(json.dumps({"plugin": plugin, "patient": asked.patient, **columns}))


def embedded(plugin: str, with_weights: WithWeights, checkpoint: Path | None = None) -> Adapter:
    """Load the adapter of an embedded network, with other weights of the same recipe if given.

    They come with the threshold that was chosen for them, and see the embedded network's windows;
    `load_adapter` would take them for a user's own, which were trained on others.
    """
    adapter = load_adapter(plugin)
    if checkpoint is None:
        return adapter
    criteria = adapter.criteria
    if criteria.threshold is not None:  # nnU-Net's is in its last bias
        criteria = replace(criteria, threshold=stored_threshold(checkpoint))
    return replace(
        adapter,
        load_network=partial(with_weights, checkpoint),
        weights=checkpoint,
        criteria=criteria,
    )


def scored(adapter: Adapter, case: Case) -> Scores:
    """Score a plugin's prediction against a case's reference, on the grid of the files.

    The threshold is the plugin's own.
    """
    criteria = adapter.criteria
    found = segmented(adapter, adapter.load_network(), case)
    if case.reference is None:
        raise ValueError(f"the case {case.name} has no reference")
    source = case.source_grid or case.grid
    predicted = found.mask(criteria.logit, criteria.threshold)
    masks = (resample(one, case.grid, source, order=0) for one in (predicted, case.reference))
    return score(*masks)


def segmented(adapter: Adapter, network: nn.Module, case: Case) -> Segmentation:
    """Segment a case through the adapter's own windows."""
    predictor = adapter.prediction(network, case, adapter.criteria).predictor
    return segment(predictor, case, adapter.classes)


def stored_threshold(weights: Path) -> float:
    """Read the lesion probability that was chosen as threshold when the weights were trained."""
    with safe_open(weights, framework="pt") as file:
        return float(file.metadata()["threshold"])


if __name__ == "__main__":
    main()
