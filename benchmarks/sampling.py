"""Accuracy of estimates from a sample of rows: signed max against the exact map of all rows.

The embedded U-Net explains a lesion that is larger than any in its embedded case: a lobed one of
exactly the given number of voxels, blended into the white matter of that case. With --patient FLAIR
MPRAGE, it explains the lesions of your own patient whose sizes come nearest. Everything is computed
on one noiseless copy.

Samples are stratified by depth and spread in space (`segxai.rows.sampling`), or drawn at random; or
taken from the surface alone, or from below it alone, to see which of the two matters. Errors are
relative to the peak of the estimated map, L2 to the norm of the exact one; "says" is the error that
the estimate itself reports (`segxai.methods.sampling_error`). All are means over seeds.

    python benchmarks/sampling.py [--voxels 500,2000] [--rows 16,32,64,128,256] [--seeds 5]
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from segxai.geometry import Box
from segxai.instances import find_instances
from segxai.methods.aggregators import SignedMax
from segxai.methods.gradient import gradient
from segxai.methods.method import Context
from segxai.methods.options import MethodOptions
from segxai.plugins.registry import load_adapter
from segxai.rows.sampling import STRATA, sample_rows, strata
from segxai.segment.predict import segment
from segxai.segment.predictor import Predictor
from segxai.segment.windows import whole_image
from segxai.types import Attribution, Case, Instance
from workbench.report import finish, numbers, options, table

CENTER = (104, 64, 40)  # in white matter, off the multiples of the network's strides
STRETCH = (1.0, 1.8, 1.0)  # along the ventricle
BRIGHT, DARK = 1.9, 0.6  # of FLAIR and of MPRAGE in a lesion, in standard deviations
ERRORS = ("peak_error", "map_error", "map_error_l2")

Sampler = Callable[[Instance, int, int], Instance | None]


@dataclass(frozen=True)
class Subject:
    """A lesion, and the network on the patch around it."""

    predictor: Predictor
    patch: Float[Tensor, "1 channel *grid"]
    lesion: Instance

    def explain(self, lesion: Instance) -> Attribution:
        """Compute the map from the rows of the lesion, or from the sample of them."""
        return gradient(
            self.predictor, self.patch, lesion, MethodOptions(), Context(aggregator=SignedMax())
        )

    def of_patch(self, found: Attribution) -> Float[np.ndarray, "channel *grid"]:
        """Place a map on the patch."""
        return found.on_grid(tuple(self.patch.shape[2:]))


@dataclass(frozen=True)
class Figure:
    """One line of the table: means over seeds of the true errors and of those that are reported."""

    voxels: int
    sampling: str
    rows: int
    seeds: int
    is_so: dict[str, float]
    says: dict[str, float]
    spread_of_peak_error: float

    @property
    def line(self) -> list[str]:
        """The cells of its line in the table."""
        pairs = [f"{100 * one[name]:.0f}%" for name in ERRORS for one in (self.is_so, self.says)]
        return [f"{self.voxels} {self.sampling}", str(self.rows), *pairs]


@dataclass(frozen=True)
class Share:
    """The contribution of one stratum of a domain to the exact map."""

    voxels: int
    stratum: str
    rows: int
    peak: float
    left_out_map: float
    left_out_l2: float

    @property
    def line(self) -> list[str]:
        """The cells of its line in the table."""
        parts = (self.rows / self.voxels, self.peak, self.left_out_map, self.left_out_l2)
        return [f"{self.voxels} {self.stratum}", str(self.rows), *(f"{x:.0%}" for x in parts)]


def main() -> None:
    """Measure every lesion, and print two tables."""
    parser = options(__doc__ or "")
    parser.add_argument("--voxels", type=numbers, default=[500, 2000], help="sizes of the lesions")
    parser.add_argument("--rows", type=numbers, default=[16, 32, 64, 128, 256])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patient", nargs=2, type=Path, metavar=("FLAIR", "MPRAGE"))
    asked = parser.parse_args()
    shares: list[Share] = []
    figures: list[Figure] = []
    for subject in subjects(asked):
        exact = subject.of_patch(subject.explain(subject.lesion))
        shares += contributions(subject, exact)
        figures += estimates(subject, exact, asked.rows, asked.seeds)
    head = ["lesion, stratum", "rows", "of all", "its peak", "without: anywhere", "L2"]
    table("What each stratum does for the exact map", head, [one.line for one in shares])
    head = ["lesion, sample", "rows", "peak", "says", "anywhere", "says", "L2", "says"]
    table("Errors of estimates, and what they say of themselves", head, [x.line for x in figures])
    finish("sampling", asked, [asdict(one) for one in (*shares, *figures)])


def subjects(asked: argparse.Namespace) -> Iterator[Subject]:
    """Yield the lesions that the options ask for, one after the other."""
    adapter = load_adapter("ms_lesion")
    network = adapter.load_network()
    if asked.patient:
        case = adapter.read(dict(zip(adapter.channels, asked.patient, strict=True)))
        predictor = adapter.predict(network, case, adapter.criteria)
        criteria = adapter.criteria
        found = segment(predictor, case, adapter.classes)
        lesions = find_instances(
            found.mask(criteria.logit, criteria.threshold), case.grid, criteria
        )
        chosen = [min(lesions, key=lambda one: abs(len(one.voxels) - n)) for n in asked.voxels]
        cases = [(case, one) for one in {one.label: one for one in chosen}.values()]
    else:
        cases = [with_lesion(adapter.embedded_case(), count) for count in asked.voxels]
    for case, lesion in cases:
        box = around(lesion, case.grid.shape, predictor.layout.windows[0].size)
        patch = torch.from_numpy(np.ascontiguousarray(case.image[box.index]))[None]
        yield Subject(Predictor(network, whole_image(box.size)), patch, lesion.seen_from(box))


def with_lesion(case: Case, count: int) -> tuple[Case, Instance]:
    """Add a lesion of this many voxels to the case; return the case and the lesion."""
    generator = np.random.default_rng(0)
    lobes = ndimage.gaussian_filter(generator.standard_normal(case.grid.shape), 3.0)
    offsets = [
        ((np.arange(size) - middle) / stretch) ** 2
        for size, middle, stretch in zip(case.grid.shape, CENTER, STRETCH, strict=True)
    ]
    field = 2.5 * lobes / lobes.std() - np.sqrt(sum(np.ix_(*offsets)))
    field[~case.foreground] = -np.inf
    domain = connected(field, count)
    share = ndimage.gaussian_filter(domain.astype(np.float32), 0.8)
    lesion = np.array([BRIGHT, DARK], dtype=np.float32)[:, None, None, None]
    image = case.image + share * (lesion - case.image)
    return replace(case, image=image), Instance.from_mask(domain)


def connected(field: Float[np.ndarray, "*grid"], count: int) -> np.ndarray:
    """Select the `count` highest voxels of the level set around the centre that just holds them."""
    low, high = -50.0, float(field[CENTER])
    for _ in range(50):
        level = (low + high) / 2
        enough = component(field > level).sum() >= count
        low, high = (level, high) if enough else (low, level)
    members = np.flatnonzero(component(field > low))
    chosen = members[np.argsort(-field.flat[members], kind="stable")[:count]]
    domain = np.zeros(field.shape, dtype=bool)
    domain.flat[chosen] = True
    return domain


def component(mask: np.ndarray) -> np.ndarray:
    """Keep the part of a mask that is connected to the centre."""
    labels, _ = ndimage.label(mask)
    return labels == labels[CENTER] if labels[CENTER] else np.zeros_like(mask)


def around(lesion: Instance, shape: tuple[int, ...], size: tuple[int, ...]) -> Box:
    """Place a window on the grid with the lesion in its middle."""
    middle = (lesion.voxels.min(axis=0) + lesion.voxels.max(axis=0)) // 2
    last = np.asarray(shape) - np.asarray(size)
    start = np.clip(middle - np.asarray(size) // 2, 0, last)
    return Box(tuple(start.tolist()), tuple(size))


def contributions(subject: Subject, exact: Float[np.ndarray, "channel *grid"]) -> list[Share]:
    """Measure the map of each stratum alone, and the map without it."""
    lesion, found = subject.lesion, []
    stratum = strata(lesion.voxels)
    for number, name in enumerate(STRATA):
        inside, outside = np.flatnonzero(stratum == number), np.flatnonzero(stratum != number)
        if len(inside) and len(outside):
            alone, without = (
                subject.of_patch(subject.explain(replace(lesion, sampled=rows)))
                for rows in (inside, outside)
            )
            peak, gap = float(np.abs(exact).max()), exact - without
            norms = [float(np.linalg.norm(one)) for one in (gap, exact)]
            errors = float(np.abs(alone).max()) / peak, float(np.abs(gap).max()) / peak
            found.append(Share(len(stratum), name, len(inside), *errors, norms[0] / norms[1]))
    return found


def estimates(
    subject: Subject, exact: Float[np.ndarray, "channel *grid"], counts: list[int], seeds: int
) -> Iterator[Figure]:
    """Estimate the map with every way of sampling and every number of rows."""
    for name, sampler in SAMPLERS.items():
        for count in counts:
            samples = [sampler(subject.lesion, count, seed) for seed in range(seeds)]
            if any(one is None or one.sampled is None for one in samples):
                continue  # the lesion has too few
            is_so, says = [], []
            for sample in filter(None, samples):
                found = subject.explain(sample)
                is_so.append(errors_of(subject.of_patch(found), exact))
                says.append([found.facts[error] for error in ERRORS])
            yield Figure(
                len(subject.lesion.voxels),
                name,
                count,
                seeds,
                dict(zip(ERRORS, np.mean(is_so, axis=0).tolist(), strict=True)),
                dict(zip(ERRORS, np.mean(says, axis=0).tolist(), strict=True)),
                float(np.std([one[0] for one in is_so])),
            )


def errors_of(
    found: Float[np.ndarray, "channel *grid"], exact: Float[np.ndarray, "channel *grid"]
) -> tuple[float, float, float]:
    """Compute the errors that `segxai.methods.sampling_error.SamplingError` predicts."""
    peak, gap = float(np.abs(found).max()), exact - found
    return (
        (float(np.abs(exact).max()) - peak) / peak,
        float(np.abs(gap).max()) / peak,
        float(np.linalg.norm(gap) / np.linalg.norm(exact)),
    )


def from_among(
    lesion: Instance, among: Int[np.ndarray, " voxel"], count: int, seed: int
) -> Instance | None:
    """Draw a sample at random from some of the voxels; None if there are not enough."""
    if len(among) < count:
        return None
    chosen = np.random.default_rng(seed).choice(among, count, replace=False)
    return replace(lesion, sampled=chosen)


def below(lesion: Instance, *, surface: bool) -> Int[np.ndarray, " voxel"]:
    """Select the voxels of the surface, or those below it."""
    return np.flatnonzero((strata(lesion.voxels) == 0) == surface)


SAMPLERS: dict[str, Sampler] = {
    "stratified": lambda one, n, seed: sample_rows(one, n, seed),
    "random": lambda one, n, seed: from_among(one, np.arange(len(one.voxels)), n, seed),
    "surface only": lambda one, n, seed: from_among(one, below(one, surface=True), n, seed),
    "below only": lambda one, n, seed: from_among(one, below(one, surface=False), n, seed),
}


if __name__ == "__main__":
    main()
