"""Score weights on one patient of open_ms: `python -m segxai_ms_lesion.recipe.evaluate --help`.

The only module that opens the test patient. Nothing is chosen from what it prints.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float
from monai.inferers.utils import sliding_window_inference
from safetensors import safe_open

from segxai_ms_lesion.network import OVERLAP, WINDOW, load_unet
from segxai_ms_lesion.preprocessing import normalise
from segxai_ms_lesion.recipe.scores import score


def main() -> None:
    """Print the scores as one line of JSON."""
    parser = argparse.ArgumentParser(description="Score weights on one patient of open_ms.")
    parser.add_argument("weights", type=Path, help="a .safetensors file of the recipe")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--patient", type=int, required=True)
    asked = parser.parse_args()
    folder = asked.data / f"patient{asked.patient:02d}"
    threshold = stored_threshold(asked.weights)
    channels = [_read(folder / name) for name in ("flair.nii.gz", "t1.nii.gz")]
    probability = lesion_probability(asked.weights, channels)
    reference = _read(folder / "gt.nii.gz") > 0
    scores = score(probability > threshold, reference)
    print(json.dumps({"patient": asked.patient, "threshold": threshold, **asdict(scores)}))


def stored_threshold(weights: Path) -> float:
    """The probability above which a voxel is lesion, as chosen when the weights were trained."""
    with safe_open(weights, framework="pt") as file:
        return float(file.metadata()["threshold"])


def lesion_probability(
    weights: Path, channels: list[Float[np.ndarray, "x y z"]]
) -> Float[np.ndarray, "x y z"]:
    """Softmax probability of lesion, from raw images (flair, mprage) by a sliding window."""
    image = torch.from_numpy(np.stack([normalise(channel) for channel in channels]))
    model = load_unet(weights)
    with torch.no_grad():
        logits = sliding_window_inference(
            image[None], WINDOW, 1, model, overlap=OVERLAP, mode="gaussian"
        )
    return np.asarray(torch.softmax(torch.as_tensor(logits), dim=1)[0, 1].numpy())


def _read(path: Path) -> Float[np.ndarray, "x y z"]:
    """The voxels of a NIfTI file, turned to RAS."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32)


if __name__ == "__main__":
    main()
