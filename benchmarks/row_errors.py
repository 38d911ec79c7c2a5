"""Does the error that low-rank rows report cover the true one? All rows of many small networks.

Networks, images, windows and tolerances (0.003, 0.01 or 0.03) are drawn by seed: small U-Nets in 2D
and 3D with instance, group and layer norms, half of them trained for a moment to find bright balls
in noise. The low-rank rows of a ball are compared with the exact ones, each relative to its own
peak, and the signed max of both. Networks whose rows the engine computes exactly (up to 1e-5) are
left out.

With --json FILE, a run that was cut off goes on where it stopped.

    python benchmarks/row_errors.py [--networks 200] [--first-seed 0] [--json FILE]
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from segxai.methods.aggregators import Extremes, SignedMax
from segxai.methods.open_signs import open_signs
from segxai.rows.engines import Dense, Engine
from segxai.rows.jacobian import rows
from segxai.rows.lowrank import LowRank
from segxai.segment.inference_mode import exact_arithmetic, frozen
from workbench.report import finish, options, save, table
from workbench.toys import ToyCase, toy_case

TOLERANCES = (0.003, 0.01, 0.03)
EXACT = 1e-5  # of a row's peak


@dataclass(frozen=True)
class Figure:
    """What the engine reports of a network, and what is true."""

    seed: int
    network: dict[str, Any]
    tolerance: float
    rank: int
    told: float
    true: float
    open_signs: int
    turned: int
    turned_unseen: int
    turned_size: float

    @property
    def covered(self) -> bool:
        """Whether the reported error is at least the true one."""
        return self.true <= self.told


def main() -> None:
    """Measure as many networks as asked for, and print how often the reported error holds."""
    asked = arguments()
    figures = earlier(asked)
    start = asked.first_seed if not figures else figures[-1].seed + 1
    found = measured(start)
    while len(figures) < asked.networks:
        figures.append(next(found))
        save("row_errors", asked, [asdict(one) for one in figures])
    show(figures)
    finish("row_errors", asked, [asdict(one) for one in figures])


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__ or "")
    parser.add_argument("--networks", type=int, default=200, help="with rows that are not exact")
    parser.add_argument("--first-seed", type=int, default=0)
    return parser.parse_args()


def earlier(asked: argparse.Namespace) -> list[Figure]:
    """Read the figures that a run with the same first seed has left in the file."""
    if asked.json is None or not asked.json.exists():
        return []
    record = json.loads(asked.json.read_text())
    if record["options"]["first_seed"] != str(asked.first_seed):
        raise SystemExit(f"{asked.json} holds networks from another seed")
    return [Figure(**one) for one in record["figures"]]


def measured(first_seed: int) -> Iterator[Figure]:
    """Yield the figures of networks whose rows are not exact, seed by seed."""
    torch.set_num_threads(1)
    for seed in count(first_seed):
        figure = compared(seed, toy_case(seed))
        if figure.true > EXACT:
            yield figure


def compared(seed: int, case: ToyCase) -> Figure:
    """Compare the low-rank rows of a network with its exact ones."""
    engine = LowRank(TOLERANCES[seed % len(TOLERANCES)])
    with frozen(case.predictor.network), exact_arithmetic():
        exact, found = (all_rows(case, one) for one in (Dense(), engine))
    facts = engine.facts()
    peaks = exact.abs().flatten(1).amax(dim=1)
    seen = peaks > 0  # a row that is 0 everywhere is exact
    errors = (found - exact).abs().flatten(1).amax(dim=1)[seen] / peaks[seen]
    true = float(errors.max()) if len(errors) else 0.0
    signs = turned_signs(exact, found, facts["row_error"])
    return Figure(
        seed=seed,
        network=asdict(case.kind),
        tolerance=engine.tolerance,
        rank=facts["rank"],
        told=facts["row_error"],
        true=true,
        **signs,
    )


def all_rows(case: ToyCase, engine: Engine) -> Float[Tensor, "row channel *grid"]:
    """Compute all rows on the whole grid, in the order that does not depend on the engine."""
    found = []
    for batch in rows(case.predictor, case.image, case.voxels, class_index=1, engine=engine):
        full = case.image.new_zeros(len(batch.values), *case.image.shape[1:])
        full[(slice(None), *batch.box.index)] = batch.values
        found.append(full)
    return torch.cat(found)


def turned_signs(
    exact: Float[Tensor, "row channel *grid"],
    found: Float[Tensor, "row channel *grid"],
    row_error: float,
) -> dict[str, Any]:
    """Count the signs of the signed max that turned, and those that nothing told of.

    Entries that are no larger than the reported error are left out, as in `open_signs`.
    """
    wanted, got = (extremes_of(one) for one in (exact, found))
    before, after = (SignedMax().finish(one) for one in (wanted, got))
    peak = before.abs().max()
    error = row_error * torch.maximum(got.largest, -got.smallest).max()
    turned = (before * after < 0) & (torch.minimum(got.largest, -got.smallest) > error)
    is_open = (got.largest + got.smallest).abs() <= 2 * error
    sizes = before.abs()[turned] / peak
    return {
        "open_signs": open_signs(got, row_error)["open_signs"],
        "turned": int(turned.sum()),
        "turned_unseen": int((turned & ~is_open).sum()),
        "turned_size": float(sizes.max()) if len(sizes) else 0.0,
    }


def extremes_of(values: Float[Tensor, "row channel *grid"]) -> Extremes:
    """Take the largest and the smallest entry of each voxel."""
    return Extremes(values.amax(dim=0).clamp(min=0), values.amin(dim=0).clamp(max=0))


def show(figures: list[Figure]) -> None:
    """Print the share of networks in which the reported error holds, and the worst ratio."""
    groups = {"all": figures}
    groups |= {f"tolerance {t:g}": [x for x in figures if x.tolerance == t] for t in TOLERANCES}
    groups |= {
        name: [x for x in figures if x.network["trained"] is trained]
        for name, trained in (("trained", True), ("random", False))
    }
    groups["several windows"] = [x for x in figures if x.network["windows"]]
    head = ["networks", "number", "covered", "worst ratio", "median", "above tolerance", "rank"]
    table(
        "Reported error against the true largest error of all rows (ratio: true over reported)",
        head,
        [line(name, group) for name, group in groups.items() if group],
    )
    turned = [one for one in figures if one.turned]
    print(
        f"signs turned in {len(turned)} of {len(figures)} maps, {sum(x.turned for x in turned)} in "
        f"all, at up to {max((x.turned_size for x in turned), default=0):.0%} of the peak; "
        f"{sum(x.turned_unseen for x in turned)} of them were not among the "
        f"{sum(x.open_signs for x in figures)} reported as open"
    )


def line(name: str, group: list[Figure]) -> list[str]:
    """Format one line of the table."""
    ratios = np.array([one.true / one.told if one.told else np.inf for one in group])
    return [
        name,
        str(len(group)),
        f"{np.mean([one.covered for one in group]):.1%}",
        f"{ratios.max():.2f}",
        f"{np.median(ratios):.2f}",
        f"{np.mean([one.true > one.tolerance for one in group]):.1%}",
        f"{np.median([one.rank for one in group]):.0f}",
    ]


if __name__ == "__main__":
    main()
