"""Words of the command line, mixed up: `python -m tests.fuzz.commands --cases 500 --seed 0`."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.fuzz.bytes import Rng, pick
from tests.fuzz.outcomes import Try, main

COMMANDS = ("run", "run", "run", "show", "export", "rerun", "plugins", "methods", "check")
OPTIONS = ("--plugin", "--out", "--class", "--threshold", "--instances", "--method", "--samples")
OPTIONS += ("--noise", "--rows", "--seed", "--crop", "--device", "--engine", "--batch", "--model")
OPTIONS += ("--bundle", "--checkpoint", "--reference", "--window", "--overlap", "--channels")
OPTIONS += ("--classes", "--class-index", "--min-volume", "--tolerance", "--score", "--layer")
OPTIONS += ("--precision", "--spacing", "--max-voxels", "--run", "--images", "--json", "--tta")
OPTIONS += ("--overwrite", "--append", "--dry-run", "--split", "--trust", "--help", "--full")
VALUES = ("", "0", "-1", "1", "nan", "inf", "1e400", "99999999999999999999", "a.nii", "no.nii")
VALUES += (".", "..", "/", "/dev/null", "toy", "ms_lesion", "gradient", "auto", "cpu", "cuda:99")
VALUES += ("1,2", "1,,2", "sphere:1,2", "sphere:1,2,3,nan", "a=b", "=", "a.b:c", "é", "\x1b[31m")
VALUES += ("x" * 300, "a\nb", "folder", "text.txt", "tests.fuzz.models:volume", "mean", "--", "-")


def fuzz(rng: Rng, folder: Path) -> Try:
    """Write a few files to a folder, and mix words of the command line."""
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)), folder / "a.nii")
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("text")
    words = [pick(rng, COMMANDS)]
    if words[0] == "run" and rng.random() < 0.7:
        words += pick(rng, (["--plugin", "toy"], ["--model", "tests.fuzz.models:volume"]))
        words += [pick(rng, ("a.nii", "image=a.nii", "bright=a.nii"))]
    for _ in range(int(rng.integers(0, 5))):
        words += [pick(rng, OPTIONS)] if rng.random() < 0.7 else []
        words += [pick(rng, VALUES)] if rng.random() < 0.8 else []
    return Try(tuple(words), ("*.h5", "*.png", "folder/*"), "")


if __name__ == "__main__":
    main(fuzz)
