"""A folder of nnU-Net v2 with a trained model: its plans, its folds and their checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from segxai import SegxaiError, read_tensors
from segxai_nnunet.dataset import Dataset, read_dataset
from segxai_nnunet.network import load_folds
from segxai_nnunet.plans import Plans, read_plans

PLANS, DATASET, FINAL = "plans.json", "dataset.json", "checkpoint_final.pth"
TRAINER = "nnUNetTrainer"
WEIGHTS = "network_weights"  # where nnU-Net's own predictor finds them


@dataclass(frozen=True)
class TrainedModel:
    """A model that nnU-Net trained: one network, or one for each of several folds.

    Parameters
    ----------
    checkpoints : tuple of Path
        A file of weights for each fold.
    plans, dataset
        How its input is prepared, and the names of its channels and logits.
    trainer : str
        The class that trained it.
    mirror_axes : tuple of int
        Axes of the patch along which nnU-Net's predictor mirrors.
    """

    checkpoints: tuple[Path, ...]
    plans: Plans
    dataset: Dataset
    trainer: str
    mirror_axes: tuple[int, ...]


def open_model(path: Path) -> TrainedModel:
    """Open the model in a folder of nnU-Net v2, or one fold of it.

    Parameters
    ----------
    path
        The folder with `plans.json`, for all folds that have a final checkpoint; a `fold_X` in it;
        or a checkpoint in such a fold.

    Raises
    ------
    SegxaiError
        If a file is missing or damaged, or asks for something that is not supported.
    """
    folder, checkpoints = _find(path)
    dataset = read_dataset(folder / DATASET)
    first = read_fold(checkpoints[0])
    plans = read_plans(folder / PLANS, first["init_args"]["configuration"])
    if len(plans.schemes) != len(dataset.channels):
        raise SegxaiError(
            f"{folder}: {PLANS} normalises {len(plans.schemes)} channels, but {DATASET} names "
            f"{len(dataset.channels)}: {', '.join(dataset.channels)}"
        )
    mirrored = first.get("inference_allowed_mirroring_axes") or ()
    axes = mirrored if isinstance(mirrored, list | tuple) else (None,)
    if not all(isinstance(axis, int) and 0 <= axis < len(plans.patch) for axis in axes):
        raise SegxaiError(f"{checkpoints[0]} mirrors along axes that its patch has not: {mirrored}")
    return TrainedModel(
        checkpoints,
        plans,
        dataset,
        str(first["trainer_name"]),
        tuple(int(axis) for axis in mirrored),
    )


def load_model(model: TrainedModel) -> nn.Module:
    """Load the network of the only fold, or the mean of the networks of all folds, in eval mode.

    Raises
    ------
    SegxaiError
        If a checkpoint does not fit the plans.
    """
    weights = {path: read_fold(path)[WEIGHTS] for path in model.checkpoints}
    channels, outputs = len(model.dataset.channels), len(model.dataset.classes)
    return load_folds(model.plans.architecture, channels, outputs, weights)


def read_fold(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint of nnU-Net; nothing in it can run code.

    Raises
    ------
    SegxaiError
        If it is not a checkpoint of nnU-Net v2, or holds more than tensors and numbers.
    """
    remedy = "train with nnU-Net's own trainer, or save it again without what you added"
    content = read_tensors(path, remedy)
    wanted = {WEIGHTS: Mapping, "init_args": Mapping, "trainer_name": str}
    missing = [name for name, kind in wanted.items() if not isinstance(content.get(name), kind)]
    if missing or not isinstance(content["init_args"].get("configuration"), str):
        name = missing[0] if missing else "configuration"
        raise SegxaiError(f"{path} is not a checkpoint of nnU-Net v2: it has no {name!r}")
    return content


def in_model_folder(path: Path) -> bool:
    """Tell whether a path belongs to a trained model of nnU-Net, not to a file of weights alone."""
    fold = path.absolute().parent
    return path.is_dir() or (fold.name.startswith("fold_") and (fold.parent / PLANS).is_file())


def _find(path: Path) -> tuple[Path, tuple[Path, ...]]:
    """Find the folder of the plans, and the checkpoints that the path stands for."""
    parent = path.absolute().parent
    if path.is_file():
        return parent.parent, (path,)
    if (path / PLANS).is_file():
        return path, _final_checkpoints(path)
    if (parent / PLANS).is_file():
        return parent, (_final(path),)
    inner = sorted(one.parent for one in path.glob(f"*/{PLANS}"))
    hint = f"did you mean {inner[0]}?" if inner else "give nnU-Net's nnUNetTrainer__PLANS__CONFIG"
    raise SegxaiError(f"no trained model in {path}: it has no {PLANS}; {hint}")


def _final_checkpoints(folder: Path) -> tuple[Path, ...]:
    """Find the final checkpoints of all folds; like nnU-Net, use `fold_all` only without others."""
    found = sorted(folder.glob(f"fold_*/{FINAL}"))
    folds = [one for one in found if one.parent.name != "fold_all"] or found
    if folds:
        return tuple(folds)
    others = sorted(folder.glob("fold_*/*.pth"))
    hint = f"give one of the others, {others[0]}" if others else "is the training finished?"
    raise SegxaiError(f"no fold in {folder}: no fold_*/{FINAL}; {hint}")


def _final(fold: Path) -> Path:
    if (fold / FINAL).is_file():
        return fold / FINAL
    others = sorted(fold.glob("*.pth"))
    hint = f"give one of the others, {others[0]}" if others else "is the training finished?"
    raise SegxaiError(f"no {FINAL} in {fold}; {hint}")
