"""How often the statistics of lesions within patients are wrong, on simulated cohorts.

Each cohort has patients with 42 +- 21 lesions, whose values correlate by 0.3 within a patient, in
two groups whose share varies between patients (`workbench.cohorts` has the three designs).
"rejects" is the share of cohorts without a difference in which a method finds one at 5 %: it
should be 3 to 7 %. "covers" is the share of cohorts whose 95 % interval holds the true AUC. Where
the share of a group follows a patient's level, pooled values truly differ: only methods within
patients should keep to 5 % there.

    python benchmarks/clusters.py [--patients 10,20,37] [--runs 1000] [--json FILE]
"""

from collections.abc import Callable

import numpy as np

from segxai.statistics.estimate import Estimate
from segxai.statistics.pairs import Pairs, jackknife_auc, obuchowski_auc, within_patient_auc
from segxai.statistics.ranks import datta_satten, mann_whitney
from workbench.cohorts import DESIGNS, cohort, within_auc
from workbench.report import finish, numbers, options, save, table

ALPHA = 0.05

METHODS: dict[str, Callable[..., Estimate]] = {
    "Mann-Whitney": mann_whitney,
    "Datta-Satten": datta_satten,
    "Obuchowski": lambda *lesions: obuchowski_auc(Pairs.of(*lesions)),
    "jackknife": lambda *lesions: jackknife_auc(Pairs.of(*lesions)),
    "within patients": lambda *lesions: within_patient_auc(Pairs.of(*lesions)),
}
AUCS = ("Obuchowski", "jackknife", "within patients")  # whose intervals are of an AUC


def main() -> None:
    """Simulate, and print one table for each number of patients."""
    parser = options(__doc__ or "")
    parser.add_argument("--patients", type=numbers, default=[10, 20, 37], metavar="N,N")
    parser.add_argument("--runs", type=int, default=1000, metavar="N")
    asked = parser.parse_args()
    figures: list[dict[str, object]] = []
    for patients in asked.patients:
        rows = [_measure(name, patients, asked.runs) for name in METHODS]
        table(f"{patients} patients, {asked.runs} cohorts", list(rows[0]), [
            [f"{one:.1%}" if isinstance(one, float) else str(one) for one in row.values()]
            for row in rows
        ])  # fmt: skip
        figures += [{"patients": patients, **row} for row in rows]
        save("clusters", asked, figures)
    finish("clusters", asked, figures)


def _measure(name: str, patients: int, runs: int) -> dict[str, object]:
    found: dict[str, object] = {"method": name}
    for design in DESIGNS:
        estimates = _estimates(name, patients, runs, design=design)
        found[f"rejects, {design}"] = float(np.mean([one.p < ALPHA for one in estimates]))
    for auc in (0.5, 0.8):
        key = f"covers, AUC {auc}"
        found[key] = "-"
        if name in AUCS:
            true = within_auc(auc) if name == "within patients" else auc
            estimates = _estimates(name, patients, runs, design="frequency", auc=auc)
            found[key] = float(np.mean([one.low <= true <= one.high for one in estimates]))
    return found


def _estimates(name: str, patients: int, runs: int, **how: object) -> list[Estimate]:
    """Apply a method to as many cohorts; the same ones for each method."""
    generator = np.random.default_rng(patients)
    return [METHODS[name](*cohort(generator, patients, **how)) for _ in range(runs)]


if __name__ == "__main__":
    main()
