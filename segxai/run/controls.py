"""Controls: domains in healthy tissue, to compare the maps of lesions with.

Spheres are as in the paper (Spagnolo et al., section 2.5): ten a scan, of 93 mm3. A matched control
is a domain of the scan itself, moved and turned, so that neither size nor shape sets it apart.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Int

from segxai.errors import SegxaiError, option, warn
from segxai.geometry import Grid
from segxai.load.resampling import resample
from segxai.matching import Voxels
from segxai.types import Case, Instance

SPHERES, MATCHED = "spheres", "matched"
KINDS = (SPHERES, MATCHED)
COUNT = 10
VOLUME_MM3 = 93.0
TRIALS = 4096  # places that are tried for a domain
SAME_STEP = 1e-3  # relative: axes of this spacing may be exchanged by a turn


def place_controls(
    kinds: Sequence[str],
    case: Case,
    instances: Sequence[Instance],
    predicted: Bool[np.ndarray, "*grid"] | None,
    *,
    class_index: int,
    seed: int,
) -> list[Instance]:
    """Place controls in the healthy tissue of a case: outside of both masks, and apart.

    Healthy tissue is the foreground without the reference, the prediction (small components
    included) and the instances. Spheres come first, then a control for each instance, by decreasing
    volume. Labels follow those of the instances.

    Parameters
    ----------
    kinds : sequence of {"spheres", "matched"}
        Which controls.
    predicted : ndarray of shape (*grid), optional
        Where the class is predicted.
    class_index : int
        The class whose score is explained in spheres.
    seed : int
        The same seed gives the same controls.

    Returns
    -------
    list of Instance
        Of outcome "TN"; `source` is the label of the instance that a matched control has the shape
        of. Empty where there is no lesion, as in healthy people.

    Warns
    -----
    SegxaiWarning
        If there is no reference: what is healthy is not known. If some found no place.
    """
    if not kinds:
        return []
    if case.reference is None or not case.reference.any():
        why = "there is no reference" if case.reference is None else "the reference is empty"
        warn(f"{why}: no {option('controls')} are placed")
        return []
    healthy = _healthy(case, instances, predicted)
    places = np.argwhere(healthy)
    controls: list[tuple[Voxels, int, int]] = []
    if SPHERES in kinds:
        sphere = sphere_offsets(case.domain_grid, [len(one.voxels) for one in instances])
        for number in range(COUNT):
            rng = np.random.default_rng([seed, 0, number])
            voxels = _place([sphere], healthy, places, rng)
            controls += [] if voxels is None else [(voxels, class_index, 0)]
        _say_missing(COUNT - len(controls), COUNT, "spheres")
    if MATCHED in kinds:
        matched = list(_matched(instances, case.domain_grid, healthy, places, seed))
        _say_missing(len(instances) - len(matched), len(instances), "matched controls")
        controls += matched
    first = max((one.label for one in instances), default=0) + 1
    return [
        Instance(label, voxels, index, "TN", source=source)
        for label, (voxels, index, source) in enumerate(controls, start=first)
    ]


def _healthy(
    case: Case, instances: Sequence[Instance], predicted: Bool[np.ndarray, "*grid"] | None
) -> Bool[np.ndarray, "*grid"]:
    inside = resample(case.foreground, case.grid, case.domain_grid, order=0)
    healthy = inside & (case.reference == 0)
    if predicted is not None:
        healthy &= ~predicted
    for one in instances:
        healthy[tuple(one.voxels.T)] = False
    return healthy


def sphere_offsets(grid: Grid, sizes: Sequence[int]) -> Int[np.ndarray, "voxel axis"]:
    """List the voxels nearest to one at the origin that together have 93 mm3.

    At 1 mm these are the 93 with r^2 <= 8. In pictures, which have no scale, a disc has as many
    pixels as the median of the domains. Of voxels that are as near, the first in C order is taken.
    """
    is_volume = len(grid.shape) == 3
    wanted = VOLUME_MM3 / grid.voxel_volume_mm3 if is_volume else float(np.median(sizes))
    count = max(round(wanted), 1)
    reach = [max(1, int(np.ceil(_radius(count, grid) / step))) for step in grid.spacing]
    around = np.indices([2 * size + 1 for size in reach]).reshape(len(reach), -1).T - reach
    squares = np.square(around @ grid.affine[:-1, :-1].T).sum(axis=1).round(6)
    return around[np.sort(np.argsort(squares, kind="stable")[:count])]


def _radius(count: int, grid: Grid) -> float:
    """Return a radius, with room to spare, that a ball of so many voxels does not exceed."""
    volume = count * grid.voxel_volume_mm3
    return float(volume ** (1 / len(grid.shape))) + float(np.linalg.norm(grid.spacing))


def turns(grid: Grid) -> list[Int[np.ndarray, "axis axis"]]:
    """List the turns by multiples of 90 degrees that map the lattice onto itself; no mirror images.

    24 in 3D if all axes have the same spacing; axes of another spacing keep their direction, or are
    turned round.
    """
    rank, steps = len(grid.shape), np.asarray(grid.spacing)
    found = []
    for order, signs in product(permutations(range(rank)), product((1, -1), repeat=rank)):
        turn = np.zeros((rank, rank), dtype=int)
        turn[range(rank), order] = signs
        is_same = np.allclose(steps[list(order)], steps, rtol=SAME_STEP)
        if is_same and round(np.linalg.det(turn)) == 1:
            found.append(turn)
    return found


def _matched(
    instances: Sequence[Instance],
    grid: Grid,
    healthy: Bool[np.ndarray, "*grid"],
    places: Int[np.ndarray, "place axis"],
    seed: int,
) -> Iterator[tuple[Voxels, int, int]]:
    """Move each domain to healthy tissue, the largest first; yield voxels, class and source."""
    ways = turns(grid)
    for one in sorted(instances, key=lambda one: -len(one.voxels)):
        centre = one.voxels[len(one.voxels) // 2]
        shapes = [(one.voxels - centre) @ turn.T for turn in ways]
        voxels = _place(shapes, healthy, places, np.random.default_rng([seed, 1, one.label]))
        if voxels is not None:
            yield voxels, one.class_index, one.label


def _place(
    shapes: Sequence[Int[np.ndarray, "voxel axis"]],
    healthy: Bool[np.ndarray, "*grid"],
    places: Int[np.ndarray, "place axis"],
    rng: np.random.Generator,
) -> Voxels | None:
    """Put one of the shapes at a random place, and take that out of the healthy tissue.

    Returns its voxels in C order; None if it fits at none of the places that are tried.
    """
    if not len(places):
        return None
    for _ in range(TRIALS):
        voxels = places[rng.integers(len(places))] + shapes[int(rng.integers(len(shapes)))]
        if (voxels < 0).any() or (voxels >= healthy.shape).any():
            continue
        if healthy[tuple(voxels.T)].all():
            healthy[tuple(voxels.T)] = False
            order = np.lexsort(voxels.T[::-1])
            return voxels[order]
    return None


def _say_missing(missing: int, count: int, what: str) -> None:
    if missing:
        warn(f"{missing} of {count} {what} found no place in {TRIALS} trials")


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise SegxaiError unless all of these are kinds of controls."""
    unknown = [one for one in kinds if one not in KINDS]
    if unknown or len(set(kinds)) < len(kinds):
        raise SegxaiError(
            f"{option('controls', ','.join(kinds))}: give {' or '.join(KINDS)}, or both as "
            f"{','.join(KINDS)}"
        )
