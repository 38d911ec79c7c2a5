"""nnU-Net's plans: the settings of one configuration, read and checked."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segxai import SegxaiError, check_size, one_line, unknown_name
from segxai_nnunet.architectures import architecture_of
from segxai_nnunet.normalisation import CT_NUMBERS, SCHEMES
from segxai_nnunet.resampling import Resampling

READERS = {  # whether they turn an image to right, anterior, superior
    "NibabelIO": False,
    "SimpleITKIO": False,
    "NibabelIOWithReorient": True,
    "SimpleITKIOWithReorient": True,
}
LABELS, PREPROCESSOR = "LabelManager", "DefaultPreprocessor"
SUPPORTED = {
    "image_reader_writer": tuple(READERS),
    "label_manager": (LABELS,),
    "preprocessor_name": (PREPROCESSOR,),
    "normalization_schemes": tuple(SCHEMES),
    "resampling_fn_data": ("resample_data_or_seg_to_shape",),
}


@dataclass(frozen=True)
class Plans:
    """The settings of one configuration of nnU-Net's plans; axes are those of the network's input.

    Parameters
    ----------
    dataset, configuration : str
        Their names.
    patch : tuple of int
        Size of the tiles; two numbers for a network that takes slices.
    spacing : tuple of float
        In mm, as many numbers as the patch has.
    axes : tuple of int
        The network's axes among those of the image (x, y, z).
    is_reoriented : bool
        Whether images are first turned to right, anterior, superior.
    schemes, masks, intensities
        For each channel: the name of its normalisation, whether that is confined to where the
        image differs from 0, and the statistics of the training data's foreground.
    resampling : Resampling
        How images are resampled.
    architecture : mapping
        Name of the network's class, and its arguments.
    """

    dataset: str
    configuration: str
    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: tuple[int, ...]
    is_reoriented: bool
    schemes: tuple[str, ...]
    masks: tuple[bool, ...]
    intensities: tuple[Mapping[str, float], ...]
    resampling: Resampling
    architecture: Mapping[str, Any]


def read_json(path: Path) -> Mapping[str, Any]:
    """Read the object in a JSON file.

    Raises
    ------
    SegxaiError
        If the file cannot be read, or holds anything else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, RecursionError, ValueError) as error:
        raise SegxaiError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SegxaiError(f"{path} is not a file of nnU-Net v2: it holds no JSON object")
    return content


def read_plans(path: Path, configuration: str) -> Plans:
    """Read one configuration of a file of plans.

    Raises
    ------
    SegxaiError
        If it is missing or incomplete, or asks for something that is not supported.
    """
    content = read_json(path)
    known = content.get("configurations")
    if not isinstance(known, dict) or "transpose_forward" not in content:
        raise SegxaiError(f"{path} is not a plans file of nnU-Net v2: it has no configurations")
    if configuration not in known:
        raise SegxaiError(f"{path}: {unknown_name('configuration', configuration, known)}")
    try:
        chosen = _with_inherited(known, configuration)
        _check_supported(content, chosen, configuration, path)
        plans = _plans(content, chosen, configuration)
        _check_values(plans)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise SegxaiError(
            f"{path}: configuration {configuration!r} is damaged or from another nnU-Net "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    check_size(plans.patch, f"the patch in {path}")
    return plans


def _check_values(plans: Plans) -> None:
    """Check that numbers are those of a grid, and that each channel has its settings."""
    if not (2 <= len(plans.patch) <= 3 and len(plans.patch) == len(plans.spacing)):
        raise ValueError("patch_size and spacing are not of 2 or 3 axes")
    if min(plans.patch) < 1 or not all(0 < step < math.inf for step in plans.spacing):
        raise ValueError("patch_size or spacing is not positive")
    if sorted(plans.axes) != [0, 1, 2]:
        raise ValueError("transpose_forward is no order of three axes")
    if len(plans.masks) != len(plans.schemes):
        raise ValueError("use_mask_for_norm and normalization_schemes differ in length")
    how = plans.resampling
    if not {how.order, how.order_z} <= set(range(6)) or how.separate_z_anisotropy_threshold <= 0:
        raise ValueError("images are resampled by splines of unknown order")


def _with_inherited(known: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Merge a configuration with those that it inherits from."""
    chain = [name]
    while parent := known[chain[-1]].get("inherits_from"):
        if parent in chain:
            raise ValueError(f"configurations inherit in a circle, {' > '.join([*chain, parent])}")
        chain.append(parent)
    return {key: value for one in reversed(chain) for key, value in known[one].items()}


def _check_supported(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], name: str, path: Path
) -> None:
    """Refuse settings that would silently be replaced by others here."""
    if chosen.get("previous_stage"):
        raise SegxaiError(
            f"{path}: {name!r} is a cascade, whose network also takes the segmentation of "
            f"{chosen['previous_stage']!r}; explain a network that takes images alone"
        )
    merged = {"label_manager": LABELS, "preprocessor_name": PREPROCESSOR, **plans, **chosen}
    for key, known in SUPPORTED.items():
        values = merged[key] if isinstance(merged[key], list) else [merged[key]]
        wrong = next((value for value in values if value not in known), None)
        if wrong is not None:
            raise SegxaiError(
                f"{path}: {key} is {wrong!r}, which is not supported here; known: "
                f"{', '.join(known)}"
            )


def _plans(plans: Mapping[str, Any], chosen: Mapping[str, Any], name: str) -> Plans:
    schemes = tuple(chosen["normalization_schemes"])
    options = dict(chosen["resampling_fn_data_kwargs"])
    if options.pop("is_seg", False):
        raise ValueError("images are resampled as if they were labels")
    return Plans(
        dataset=str(plans.get("dataset_name", "a dataset without a name")),
        configuration=name,
        patch=tuple(int(n) for n in chosen["patch_size"]),
        spacing=tuple(float(step) for step in chosen["spacing"]),
        # Readers give arrays in the order (z, y, x), to which the plans' order refers.
        axes=tuple(2 - int(axis) for axis in plans["transpose_forward"]),
        is_reoriented=READERS[plans["image_reader_writer"]],
        schemes=schemes,
        masks=tuple(bool(one) for one in chosen["use_mask_for_norm"]),
        intensities=_intensities(plans, schemes),
        resampling=Resampling(**options),
        architecture=architecture_of(chosen),
    )


def _intensities(
    plans: Mapping[str, Any], schemes: Sequence[str]
) -> tuple[Mapping[str, float], ...]:
    """Read the statistics of the training data's foreground, for each channel that needs them."""
    name = "foreground_intensity_properties"
    found = plans.get(f"{name}_per_channel", plans.get(f"{name}_by_modality"))  # the older name
    return tuple(
        {key: float(found[str(number)][key]) for key in CT_NUMBERS}
        if scheme == "CTNormalization"
        else {}
        for number, scheme in enumerate(schemes)
    )
