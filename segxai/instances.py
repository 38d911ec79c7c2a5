"""The instances to explain: from a predicted class, a user's mask or spheres."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from segxai.errors import SegxaiError
from segxai.geometry import Grid
from segxai.matching import ANY, ONE_TO_ONE, Matching, Voxels, match, overlaps
from segxai.types import Instance, InstanceCriteria

RULES = (ANY, ONE_TO_ONE)  # by which a run counts its outcomes


def find_instances(
    mask: Bool[np.ndarray, "*grid"],
    grid: Grid,
    criteria: InstanceCriteria,
    reference: Bool[np.ndarray, "*grid"] | None = None,
) -> list[Instance]:
    """Find the predicted instances, numbered from 1 by decreasing volume, then the missed ones.

    Parameters
    ----------
    mask : ndarray of shape (*grid)
        Where the class is predicted.
    reference : ndarray of shape (*grid), optional
        Where an expert drew the class. A predicted instance that overlaps it is a "TP", one that
        does not is an "FP". Components of the reference that no predicted instance overlaps are
        "FN" and follow, again by decreasing volume. The minimum volume applies to all; but what
        overlaps only smaller components of the reference is a "TP", too. By another rule of the
        criteria's `match`, "overlaps" means what that rule says.

    Returns
    -------
    list of Instance
        Instances of equal volume are in the order of their first voxels. Empty if none is found.
    """
    predicted = components(mask, grid, criteria)
    outcomes, missed = outcomes_of(predicted, reference, grid, criteria)
    return _numbered(predicted + missed, outcomes + ["FN"] * len(missed), criteria)


def outcomes_of(
    predicted: list[Voxels],
    reference: Bool[np.ndarray, "*grid"] | None,
    grid: Grid,
    criteria: InstanceCriteria,
) -> tuple[list[str], list[Voxels]]:
    """Return the outcome of each predicted instance, and the components that all of them missed.

    Outcomes are "TP" and "FP" as in `find_instances`; "" if there is no reference.
    """
    if reference is None:
        return [""] * len(predicted), []
    drawn, too_small = _drawn(reference, grid, criteria)
    matching = match(predicted, drawn, criteria.match, too_small=too_small)
    missed = [one for one, is_found in zip(drawn, matching.reference, strict=True) if not is_found]
    return ["TP" if is_hit else "FP" for is_hit in matching.predicted], missed


def matchings(
    instances: Iterable[Instance],
    reference: Bool[np.ndarray, "*grid"] | None,
    grid: Grid,
    criteria: InstanceCriteria,
) -> tuple[Matching, ...]:
    """Match the predicted instances with the components of a reference, by each rule of `RULES`.

    The criteria's own rule is added if it is another one.

    Parameters
    ----------
    instances, reference
        As `find_instances` returns and takes them.

    Returns
    -------
    tuple of Matching
        Empty if there is no reference, or the instances have no outcomes: they were not predicted.
    """
    instances = list(instances)
    if reference is None or not any(one.outcome for one in instances):
        return ()
    predicted = [one.voxels for one in instances if one.outcome in ("TP", "FP")]
    drawn, too_small = _drawn(reference, grid, criteria)
    rules = dict.fromkeys((*RULES, criteria.match))
    return tuple(match(predicted, drawn, rule, too_small=too_small) for rule in rules)


def structural_uncertainty(
    instances: Iterable[Instance],
    masks: Iterable[Bool[np.ndarray, "*grid"]],
    grid: Grid,
    criteria: InstanceCriteria,
) -> Float[np.ndarray, " instance"]:
    """Compute the structural uncertainty of instances over the members of an ensemble.

    One less the mean, over the members, of the largest intersection over union of an instance with
    a component that the member predicts, of any volume: 0 where all agree on the shape, 1 where no
    member predicts a voxel of it.

    Parameters
    ----------
    masks : iterable of ndarray of shape (*grid)
        Where each member predicts the class.

    References
    ----------
    Molchanova et al., "Structural-based uncertainty in deep learning across anatomical scales:
    analysis in white matter lesion segmentation", Computers in Biology and Medicine, 2025: LSU.
    """
    domains = [one.voxels for one in instances]
    every = replace(criteria, min_volume_mm3=0.0)
    best = [
        overlaps(domains, components(mask, grid, every)).max(axis=1, initial=0.0) for mask in masks
    ]
    return np.asarray(1 - np.mean(best, axis=0))


def _drawn(
    reference: Bool[np.ndarray, "*grid"], grid: Grid, criteria: InstanceCriteria
) -> tuple[list[Voxels], list[Voxels]]:
    """Find the components of a reference, those that are large enough and those that are not."""
    found = components(reference, grid, replace(criteria, min_volume_mm3=0.0))
    count = sum(len(voxels) >= smallest_voxels(criteria, grid) for voxels in found)
    return found[:count], found[count:]  # by decreasing volume


def components(
    mask: Bool[np.ndarray, "*grid"], grid: Grid, criteria: InstanceCriteria
) -> list[Int[np.ndarray, "_ axis"]]:
    """Find the voxels of all connected components that are large enough, by decreasing volume."""
    structure = ndimage.generate_binary_structure(mask.ndim, min(criteria.connectivity, mask.ndim))
    labels, _ = ndimage.label(mask, structure)
    smallest = smallest_voxels(criteria, grid)
    found = [voxels for voxels in _by_label(labels) if len(voxels) >= smallest]
    return sorted(found, key=len, reverse=True)  # stable: ties keep the order of first voxels


def smallest_voxels(criteria: InstanceCriteria, grid: Grid) -> float:
    """Return the minimum number of voxels, with slack: 5 of 0.9999999 mm3 count as 5 mm3."""
    return (1 - 1e-6) * criteria.min_volume_mm3 / grid.voxel_volume_mm3


def from_labels(
    labels: Int[np.ndarray, "*grid"], class_index: int, *, split: bool, grid: Grid
) -> list[Instance]:
    """Build one instance for each non-zero label of a user's mask, under the same number.

    Its voxels need not be connected. With `split`, every connected component (18 neighbours in 3D)
    becomes its own instance, numbered from 1 by decreasing volume.

    Raises
    ------
    SegxaiError
        If the mask is empty.
    """
    if not labels.any():
        raise SegxaiError("the mask of instances is empty: every voxel is 0")
    if split:
        criteria = InstanceCriteria(class_index)
        parts = components(labels != 0, grid, criteria)
        return _numbered(parts, [""] * len(parts), criteria)
    return [
        Instance(int(labels[tuple(voxels[0])]), voxels, class_index) for voxels in _by_label(labels)
    ]


def whole_class(mask: Bool[np.ndarray, "*grid"], criteria: InstanceCriteria) -> Instance:
    """Build one instance of label 0 from all voxels of the class, for class-level methods.

    Raises
    ------
    SegxaiError
        If no voxel of the class is predicted.
    """
    if not mask.any():
        raise SegxaiError("no voxel of the class is predicted; give a lower --threshold")
    return Instance.from_mask(mask, label=0, class_index=criteria.logit)


def chosen(instances: Iterable[Instance], labels: Iterable[int]) -> list[Instance]:
    """Select the instances with these labels, in the order of the case.

    Raises
    ------
    SegxaiError
        If one of them does not exist.
    """
    known = {instance.label: instance for instance in instances}
    wanted = set(labels)
    missing = sorted(wanted - known.keys())
    if missing:
        raise SegxaiError(
            f"no instance {', '.join(map(str, missing))}; "
            f"this case has {_span(sorted(known)) or 'none'}"
        )
    return [instance for label, instance in known.items() if label in wanted]


def _by_label(labels: Int[np.ndarray, "*grid"]) -> list[Int[np.ndarray, "_ axis"]]:
    """Group voxels by non-zero label, in increasing order of label; each group is in C order."""
    voxels = np.argwhere(labels)
    values = labels[tuple(voxels.T)]
    order = np.argsort(values, kind="stable")
    _, first = np.unique(values[order], return_index=True)
    return np.split(voxels[order], first[1:]) if len(voxels) else []


def _numbered(
    parts: list[Int[np.ndarray, "_ axis"]], outcomes: list[str], criteria: InstanceCriteria
) -> list[Instance]:
    return [
        Instance(number, voxels, criteria.logit, outcome)
        for number, (voxels, outcome) in enumerate(zip(parts, outcomes, strict=True), start=1)
    ]


def _span(labels: list[int]) -> str:
    """Format labels for a message: "1 to 31" where they are consecutive."""
    if len(labels) > 2 and labels[-1] - labels[0] == len(labels) - 1:
        return f"{labels[0]} to {labels[-1]}"
    return ", ".join(map(str, labels))


Sphere = tuple[float, ...]  # the centre's coordinates and the radius, in mm


def balls(spheres: Iterable[Sphere], grid: Grid, class_index: int) -> list[Instance]:
    """Build one instance for each ball, numbered from 1; they may overlap.

    Raises
    ------
    SegxaiError
        If a ball contains no voxel, or its centre does not have the grid's number of axes.
    """
    return [
        Instance.sphere(numbers[:-1], numbers[-1], grid, label=label, class_index=class_index)
        for label, numbers in enumerate(spheres, start=1)
    ]
