"""Score a lesion plugin on a patient of open_ms: `python -m segxai_ms_lesion.recipe.evaluate -h`.

The only module that opens the test patient. Nothing is chosen from what it prints.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open

from segxai import Adapter, Case, load_adapter, resample
from segxai.segment.predict import segment
from segxai_ms_lesion.recipe.scores import Scores, score


def main() -> None:
    """Print the scores as one line of JSON."""
    parser = argparse.ArgumentParser(description="Score a lesion plugin on a patient of open_ms.")
    parser.add_argument("--plugin", default="ms_lesion", help="ms_lesion, nnunet, swin_unetr")
    parser.add_argument("--checkpoint", type=Path, help="weights instead of the embedded ones")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--patient", type=int, required=True)
    asked = parser.parse_args()
    folder = asked.data / f"patient{asked.patient:02d}"
    adapter = load_adapter(asked.plugin, asked.checkpoint)
    names = zip(adapter.files, ("flair.nii.gz", "t1.nii.gz"), strict=True)
    case = adapter.read({name: folder / file for name, file in names}, folder / "gt.nii.gz")
    scores = scored(adapter, case)
    print(json.dumps({"plugin": asked.plugin, "patient": asked.patient, **asdict(scores)}))


def scored(adapter: Adapter, case: Case) -> Scores:
    """How well a plugin's prediction fits a case's reference, on the grid of the files.

    The threshold is the plugin's own.
    """
    criteria = adapter.criteria
    predictor = adapter.prediction(adapter.load_network(), case, criteria).predictor
    found = segment(predictor, case, adapter.classes).mask(criteria.logit, criteria.threshold)
    if case.reference is None:
        raise ValueError(f"the case {case.name} has no reference")
    source = case.source_grid or case.grid
    masks = (resample(one, case.grid, source, order=0) for one in (found, case.reference))
    return score(*masks)


def stored_threshold(weights: Path) -> float:
    """Read the lesion probability that was chosen as threshold when the weights were trained."""
    with safe_open(weights, framework="pt") as file:
        return float(file.metadata()["threshold"])


if __name__ == "__main__":
    main()
