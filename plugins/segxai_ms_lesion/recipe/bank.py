"""Make cases beforehand: `python -m segxai_ms_lesion.recipe.bank --help`.

Several trainings can then share them, at the same time or one after another, and none of them
spends processor time or memory on making its own.
"""

import argparse
import time
from pathlib import Path
from queue import Empty

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from segxai_ms_lesion.recipe.cases import Normalise, TrainingCase, open_sources, random_case
from segxai_ms_lesion.recipe.sources import training_mask_numbers

WAIT_SECONDS = 2.0


def main() -> None:
    """Write cases to a folder; those that are there already are kept."""
    parser = argparse.ArgumentParser(description="Make training cases beforehand.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the folder")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    masks = tuple(training_mask_numbers(asked.data))
    sources = open_sources(asked.data, masks, lambda images: images)
    for number in range(asked.count):
        path = case_path(asked.out, number)
        if not path.exists():
            store(random_case(sources, np.random.default_rng([asked.seed, number])), path)


def case_path(folder: Path, number: int) -> Path:
    """Where a case lies."""
    return folder / f"{number:04d}.safetensors"


def store(case: TrainingCase, path: Path) -> None:
    """Write a case whose images are not normalised yet; the file appears when it is whole."""
    unfinished = path.with_suffix(".part")
    save_file({"image": case.image, "lesions": case.lesions}, unfinished)
    unfinished.rename(path)


class StoredCases:
    """The cases of a folder in their order, taken as from a queue; others may still be added."""

    def __init__(self, folder: Path, normalise: Normalise) -> None:
        self._folder = folder
        self._normalise = normalise
        self._next = 0

    def get(self) -> TrainingCase:
        """Take the next case; wait until it is there."""
        while not case_path(self._folder, self._next).exists():
            time.sleep(WAIT_SECONDS)
        return self.get_nowait()

    def get_nowait(self) -> TrainingCase:
        """Take the next case.

        Raises
        ------
        Empty
            If there is none yet.
        """
        path = case_path(self._folder, self._next)
        if not path.exists():
            raise Empty
        self._next += 1
        parts = load_file(path)
        image = self._normalise(parts["image"].astype(np.float32))
        return TrainingCase(image.astype(np.float16), parts["lesions"])


if __name__ == "__main__":
    main()
