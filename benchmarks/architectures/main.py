"""All methods on four networks: which of them agree, on which network, and at what cost.

Methods are run by `segxai run`, compared by `segxai compare`, and only the tables are read. The MS
networks explain the same three small lesions of one block of an image, 64 voxels wide; the 2D
network explains three coins. `plan.py` has the reductions. Jobs that are done are not repeated, and
with `--minutes` no new one starts once so much of the processor's time is spent. The numbers and
figures of the page are written by this script; its reading is not.

    python benchmarks/architectures/main.py --out FOLDER [--data ../shared/data/open_ms]
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from agreement import SHOWN, families, means, read, square
from figures import draw_matrices, draw_networks
from plan import METHODS, MS_NETWORKS, RANDOM, Job, jobs
from run import Place, ready

from page import fill, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "which-method.md"
DATA = ROOT.parent / "shared" / "data" / "open_ms"
ALIKE = 0.7  # the least cosine within a family of methods
SUBJECTS = [("embedded", network) for network in MS_NETWORKS]
SUBJECTS += [("coins", "natural_image"), *(("patient26", network) for network in MS_NETWORKS)]
CLASS_LEVEL = {"class_smoothgrad mean": "smoothgrad mean", "class_gradcam++": "gradcam++"}


def main() -> None:
    """Run what is left of the plan, compare, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of open_ms")
    parser.add_argument("--minutes", type=float, default=np.inf, help="of the processor at most")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose numbers are filled in")
    asked = parser.parse_args()
    place = Place(asked.out, asked.data)
    for job in jobs():
        spent = sum(one["seconds"] for one in place.costs())
        if spent < 60 * asked.minutes and place.has_images(job.case):
            place.run(job)
    within = {one: found for one in SUBJECTS if (found := compared_within(place, *one)) is not None}
    across = {case: compared_across(place, case) for case in ("embedded", "patient26")}
    write_page(asked.page, place, within, {case: one for case, one in across.items() if len(one)})


def compared(place: Place, wanted: Sequence[Job], name: str) -> pd.DataFrame | None:
    """Compare the results of jobs that are there, unless that was done; None for less than two."""
    files = [place.result(job) for job in wanted if place.has(job)]
    if len(files) < 2:
        return None
    folder = place.folder / "compared" / name
    known = folder / "compare.json"
    listed = [file.name for file in files]
    done = json.loads(known.read_text())["runs"].values() if known.exists() else ()
    if [one["place"] for one in done] != listed:
        ready("compare", *files, "--out", folder, "--pictures", "0", "--overwrite")
    return read(folder)


def compared_within(place: Place, case: str, network: str) -> pd.DataFrame | None:
    """Compare all methods on one network, each with its first seed."""
    wanted = [job for job in _runs(case, network, METHODS) if job.seed == 0]
    return compared(place, wanted, f"{case}-{network}")


def compared_across(place: Place, case: str) -> pd.DataFrame:
    """Compare the networks by each method that at least two of them have."""
    found = []
    for method in METHODS:
        wanted = [job for network in MS_NETWORKS for job in _runs(case, network, [method])]
        there = {job.network for job in wanted if place.has(job)}
        if len(there) > 1 and method not in CLASS_LEVEL:
            found.append(compared(place, wanted, f"{case}-{method.replace(' ', '-')}"))
    return pd.concat(found) if found else pd.DataFrame()


def _runs(case: str, network: str, methods: Iterable[str]) -> list[Job]:
    return [
        Job(case, network, method, seed)
        for method in methods
        for seed in ((0, 1) if method in RANDOM else (0,))
    ]


def write_page(
    page: Path,
    place: Place,
    within: dict[tuple[str, str], pd.DataFrame],
    across: dict[str, pd.DataFrame],
) -> None:
    """Write the tables and figures of the page."""
    images = page.parents[1] / "images"
    matrices, groups = {}, []
    for (case, network), pairs in within.items():
        found = means(pairs, "cosine")
        there = set(found["first_method"]) | set(found["second_method"])
        methods = [name for name in METHODS if name in there and name not in CLASS_LEVEL]
        values, floors = (square(found, methods, column) for column in ("value", "floor"))
        if len(methods) < 4:
            continue
        matrices[f"{network}, {case}"] = (methods, values, floors)
        alike = ["; ".join(", ".join(f"`{one}`" for one in group) for group in families(
            values, methods, ALIKE) if len(group) > 1)]  # fmt: skip
        upper = np.triu_indices(len(methods), 1)
        count = f"{int((values[upper] > floors[upper]).sum())} of {len(upper[0])}"
        groups.append([f"`{network}`", case, count, float(np.nanmedian(values[upper])), *alike])
    head = ["network", "image", "above the floor", "median", f"at least {ALIKE} with each other"]
    fill(page, "families", table(head, groups))
    draw_matrices(matrices).savefig(images / "methods-matrix.png", dpi=80)
    for case, pairs in across.items():
        tables = {title: means(pairs, metric) for metric, title in SHOWN.items()}
        draw_networks(tables).savefig(images / f"networks-{case}.png", dpi=80)
        fill(page, f"networks-{case}", _networks(pairs))
    fill(page, "class", _class_level(within))
    fill(page, "costs", _costs(place))


def _networks(pairs: pd.DataFrame) -> str:
    """Tabulate, for each method, the agreement of networks: the mean over their pairs."""
    metrics = ("cosine", "top_5_overlap", "spearman", "peak_distance")
    by_metric = [means(pairs, metric) for metric in metrics]
    rows = []
    for method in dict.fromkeys(by_metric[0]["first_method"]):
        row: list[object] = [f"`{method}`"]
        for metric, found in zip(metrics, by_metric, strict=True):
            of_it = found[found["first_method"] == method]
            bounds = ("value", "floor", "ceiling")[: 3 if metric in SHOWN else 2]
            row += [float(of_it[bound].mean()) for bound in bounds]
        rows.append([*row, len(of_it)])
    shown = ["cosine", "floor", "ceiling", "top 5 %", "floor", "ceiling"]
    more = ["rank correlation", "floor", "peaks apart, mm", "floor", "pairs of networks"]
    head = ["method", *shown, *more]
    return table(head, rows)


def _class_level(within: dict[tuple[str, str], pd.DataFrame]) -> str:
    """Tabulate how alike a map of the class is to that of each of its instances."""
    rows = []
    for (case, network), pairs in within.items():
        for whole, single in CLASS_LEVEL.items():
            both = {whole, single}
            chosen = pairs[[
                {one, other} == both
                for one, other in zip(pairs["first_method"], pairs["second_method"], strict=True)
            ]]  # fmt: skip
            if len(chosen):
                values = {
                    name: chosen[chosen["metric"] == name]["value"]
                    for name in ("cosine", "relative_difference", "peak_distance")
                }
                cosine = values["cosine"]
                spread = f"{cosine.min():.2f} to {cosine.max():.2f}"
                more = [float(one.mean()) for one in values.values()]
                rows.append([f"`{network}`", case, f"`{single}`", spread, *more])
    head = ["network", "image", "method", "cosine", "mean", "difference", "peaks apart"]
    return table(head, rows)


def _costs(place: Place) -> str:
    """Tabulate the seconds of the processor of each job, or that it was refused."""
    by_job = {tuple(one["job"].values())[:3]: one for one in place.costs()}
    rows = []
    for method in METHODS:
        row: list[object] = [f"`{method}`", " ".join(METHODS[method]).replace("--set ", "")]
        for subject in SUBJECTS:
            cost = by_job.get((*subject, method))
            refused = cost is not None and cost["status"]
            row.append("refused" if refused else f"{cost['seconds']:.0f}" if cost else "")
        rows.append(row)
    head = ["method", "options", *(f"`{network}`, {case}" for case, network in SUBJECTS)]
    return table(head, rows)


if __name__ == "__main__":
    main()
