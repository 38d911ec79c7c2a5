"""Cropping: cutting a map down to the box that holds its values."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from segxai.geometry import Box
from segxai.types import Attribution, Case, Instance


def crop_to_support(attribution: Attribution, instance: Instance | None) -> Attribution:
    """Crop a map to the smallest box that holds its non-zero values and the instance's domain.

    Pass None for an instance whose domain lies on another grid. At least one voxel is left.
    """
    used = np.zeros(attribution.box.size, dtype=bool)
    for values in (attribution.values, attribution.standard_error):
        if values is not None:
            used |= _any_channel(values != 0, used.ndim)
    if instance is not None:
        used |= instance.seen_from(attribution.box).mask(used.shape)
    if not used.any():
        used[(0,) * used.ndim] = True
    return _cut(attribution, used)


def crop_at_distance(
    attribution: Attribution, instance: Instance, spacing: tuple[float, ...], distance_mm: float
) -> Attribution:
    """Cut a map off at a distance from the domain, and record the energy left out in its facts.

    Energy is the sum of squares; `facts["energy_left_out"]` is the share left out, from 0 to 1.
    """
    domain = instance.seen_from(attribution.box).mask(attribution.box.size)
    near = ndimage.distance_transform_edt(~domain, sampling=spacing) <= distance_mm
    values = attribution.values * near
    energy = float(np.square(attribution.values, dtype=np.float64).sum())
    kept = float(np.square(values, dtype=np.float64).sum())
    error = attribution.standard_error
    facts = {
        **attribution.facts,
        "crop_mm": distance_mm,
        "energy_left_out": 1 - kept / energy if energy else 0.0,
    }
    kept_error = None if error is None else error * near
    return _cut(replace(attribution, values=values, standard_error=kept_error, facts=facts), near)


def on_map(instance: Instance, case: Case, box: Box) -> Instance:
    """Return the domain on the grid of the maps: its voxels, or the nearest ones in a map's box."""
    if not case.domains_on_source:
        return instance
    nearest = np.rint(case.grid.to_voxels(case.domain_grid.to_mm(instance.voxels))).astype(int)
    inside = np.clip(nearest, box.start, np.asarray(box.stop) - 1)
    return replace(instance, voxels=np.unique(inside, axis=0), sampled=None)


def _any_channel(used: Bool[np.ndarray, "*shape"], axes: int) -> Bool[np.ndarray, "*box"]:
    return np.any(used.reshape(-1, *used.shape[used.ndim - axes :]), axis=0, keepdims=False)


def _cut(attribution: Attribution, used: Bool[np.ndarray, "*box"]) -> Attribution:
    """Cut the attribution to the bounding box of `used`."""
    box = ndimage.find_objects(used.astype(np.int8))[0]

    def cut(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*cut"]:
        return np.ascontiguousarray(values[(..., *box)])

    error = attribution.standard_error
    return replace(
        attribution,
        values=cut(attribution.values),
        offset=tuple(o + b.start for o, b in zip(attribution.offset, box, strict=True)),
        standard_error=None if error is None else cut(error),
    )
