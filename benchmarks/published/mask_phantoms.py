"""A cohort of phantoms: one anatomy, deformed, with the lesions of each real mask.

All of it is the training recipe of `ms_lesion`: the tissues of the ICBM 152 template, deformed,
with contrasts, a scanner and a share of one patient's lesions drawn at random. So every phantom is
the same head, and looks as the phantoms that the networks were trained on: nothing here is about
patients. Masks that were not trained on are a cohort of their own.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from segxai_ms_lesion.recipe.cases import Sources, TrainingCase, made_case, open_sources
from segxai_ms_lesion.recipe.sources import open_masks, training_mask_numbers

from segxai.report.output_files import make_folder

SEED = 1_000_016  # apart from every training seed, and from that of the recipe's own validation
TRAINED_IN_PLACE = 7  # the training patient: its mask is not pasted, but learnt where it is


def write_phantoms(data: Path, folder: Path) -> None:
    """Write a phantom for each mask, and the CSVs of both cohorts; keep what is there.

    Parameters
    ----------
    data : Path
        The folder of open_ms.
    folder : Path
        Where images, references, `held_out.csv` and `trained.csv` go.
    """
    make_folder(folder)
    names = sorted(path.name for path in (data / "lesion_masks_mni").glob("patient*.nii.gz"))
    numbers = [int(name.removeprefix("patient").split(".")[0]) for name in names]
    trained = {TRAINED_IN_PLACE, *training_mask_numbers(data)}
    sources: Sources | None = None
    lines: dict[str, list[dict[str, str]]] = {"held_out": [], "trained": []}
    for number in numbers:
        case = f"mask{number:02}"
        files = {name: f"{case}_{name}.nii.gz" for name in ("flair", "mprage", "reference")}
        if not all((folder / file).is_file() for file in files.values()):
            sources = sources or open_sources(data, (), np.asarray)
            _write(_phantom(data, sources, number), folder, files)
        cohort = "trained" if number in trained else "held_out"
        lines[cohort].append({"case": case, "patient": case, **files})
    for cohort, rows in lines.items():
        pd.DataFrame(rows).to_csv(folder / f"{cohort}.csv", index=False)


def _phantom(data: Path, sources: Sources, number: int) -> TrainingCase:
    random = np.random.default_rng([SEED, number])
    return made_case(sources, open_masks(data, (number,)), random, on_patient=False, heavy=False)


def _write(case: TrainingCase, folder: Path, files: dict[str, str]) -> None:
    """Write images of 1 mm voxels, the reference last: a case is there when it is."""
    flair, mprage = case.image.astype(np.float32)
    volumes = {"flair": flair, "mprage": mprage, "reference": (case.lesions > 0).astype(np.uint8)}
    for name, values in volumes.items():
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / files[name])
