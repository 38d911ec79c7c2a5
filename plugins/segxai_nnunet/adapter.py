"""The adapter: any model that nnU-Net v2 trained, the embedded one, and the paper's DynUNet."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from segxai_ms_lesion import adapter as ms_lesion
from segxai_ms_lesion.guards import check_images, check_lesion_contrast
from torch import nn

from segxai import (
    Adapter,
    Case,
    InstanceCriteria,
    Predictor,
    file_sha256,
    hookimpl,
    read_case,
    resample,
    unknown_name,
    working_grid,
)
from segxai_nnunet.cases import load_case, load_images
from segxai_nnunet.dynunet import THRESHOLD, load_dynunet
from segxai_nnunet.folder import (
    TRAINER,
    WEIGHTS,
    TrainedModel,
    in_model_folder,
    load_model,
    open_model,
)
from segxai_nnunet.tiles import tiles

EMBEDDED = Path(__file__).parent / "weights"
FEW: Mapping[str, object] = {"labels": (6,), "rows": 4, "samples": 2}  # about a minute


@hookimpl
def segxai_adapter(checkpoint: Path | None = None, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the embedded nnU-Net, or of any other."""
    return embedded(EMBEDDED) if checkpoint is None else for_checkpoint(checkpoint, weights_key)


def embedded(folder: Path) -> Adapter:
    """Build the adapter of a model of FLAIR and MPRAGE, with the embedded case of `ms_lesion`."""
    model = open_model(folder)
    adapter = adapter_of(model)
    return replace(
        adapter,
        load_case=partial(load_brain, model),
        embedded_case=partial(embedded_case, model),
        criteria=replace(adapter.criteria, min_volume_mm3=5.0),
        check_objects=check_objects,
        embedded_options=FEW,
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, nnU-Net; or your own nnU-Net",
    )


def for_checkpoint(path: Path, weights_key: str | None = None) -> Adapter:
    """Build the adapter of a folder with a trained model, of a fold, or of a DynUNet's weights."""
    if in_model_folder(path):
        if weights_key not in (None, WEIGHTS):
            raise unknown_name("key of weights", str(weights_key), [WEIGHTS])
        return adapter_of(open_model(path))
    unet = ms_lesion.segxai_adapter(path)
    return replace(
        unet,
        load_network=partial(load_dynunet, path, weights_key),
        weights=path,
        criteria=replace(unet.criteria, threshold=THRESHOLD),
        layer=None,
        notes=("MONAI's DynUNet as in the paper's scripts, fed like the network of ms_lesion",),
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, the paper's DynUNet",
    )


def adapter_of(model: TrainedModel) -> Adapter:
    """Build the adapter of a trained model; it has no embedded case."""
    plans, dataset = model.plans, model.dataset
    missing = 3 - len(plans.patch)  # the axis that a 2D network does not see
    return Adapter(
        channels=dataset.channels,
        classes=dataset.classes,
        load_network=partial(load_model, model),
        load_case=partial(load_case, model),
        criteria=InstanceCriteria(dataset.classes.index(dataset.target), threshold=None),
        predict=partial(predict, model),
        weights=model.checkpoints[0],
        mirror_axes=tuple(missing + axis for axis in model.mirror_axes),
        notes=tuple(_notes(model)),
        summary=f"{plans.dataset} by nnU-Net {plans.configuration}",
    )


def predict(
    model: TrainedModel, network: nn.Module, case: Case, criteria: InstanceCriteria
) -> Predictor:
    """Build a predictor from the network, with nnU-Net's tiles on the case's grid."""
    layout = tiles(case.grid.shape, model.plans.patch)
    return Predictor(network, layout, activation=model.dataset.activation)


def load_brain(model: TrainedModel, files: Mapping[str, Path]) -> Case:
    """Load a pair of brain images as a case, with warnings about what looks wrong with them."""
    case = load_case(model, files)
    volumes = load_images(model, files)
    grid = working_grid(volumes[0].grid)
    flair, mprage = (resample(one.data, one.grid, grid, order=1) for one in volumes)
    return replace(case, warnings=tuple(check_images(flair, mprage, grid.voxel_volume_mm3)))


def embedded_case(model: TrainedModel) -> Case:
    """Load the phantom that comes with the plugin `ms_lesion`, as this model's network sees it."""
    folder = ms_lesion.EMBEDDED
    files = {channel: folder / f"{channel}.nii.gz" for channel in model.dataset.channels}
    case = read_case(partial(load_brain, model), files, folder / "reference.nii.gz")
    return replace(case, name="embedded")


def check_objects(case: Case, lesions: Bool[np.ndarray, "*grid"]) -> list[str]:
    """Return warnings about lesions that do not look like lesions of MS."""
    return check_lesion_contrast(case.image, lesions, case.foreground)


def _notes(model: TrainedModel) -> list[str]:
    plans, count = model.plans, len(model.checkpoints)
    folds = [f"{one.parent.name}/{one.name}" for one in model.checkpoints]
    notes = [f"nnU-Net {plans.configuration} of {plans.dataset}, {', '.join(folds)}"]
    if count > 1:
        sums = ", ".join(file_sha256(one)[:12] for one in model.checkpoints)
        notes = [f"{notes[0]}: the mean of their logits; sha256 {sums}"]
    if model.mirror_axes:
        axes = ("axis " if len(model.mirror_axes) == 1 else "axes ") + ", ".join(
            str(axis) for axis in model.mirror_axes
        )
        notes.append(
            f"nnU-Net's own predictor also averages over mirror images ({axes}) unless told "
            f"not to; --tta does so here and takes {2 ** len(model.mirror_axes)} times as long"
        )
    if model.trainer != TRAINER:
        notes.append(
            f"trained by {model.trainer}; the network is built from the plans, as {TRAINER} does"
        )
    return notes
