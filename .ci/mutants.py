"""Mutation testing: a seeded sample of single changes by cosmic-ray, and the tests that notice.

The changes are made in a copy of the last commit, `.mutants/segxai`, one after the other. Each
meets the tests of its module first, then those of the module's folder; with `--own`, only the
first, in much less time. A run that was stopped goes on where it was; the tests are those of the
checkout, so that `--again` tries what survived against those that were written since.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from difflib import unified_diff
from importlib import import_module
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".mutants"
COPY = HOME / "segxai"
# What computes a value, and the tests of its folder.
MUTATED = {
    "segxai/rows": "tests/rows",
    "segxai/methods": "tests/methods",
    "segxai/segment": "tests/segment",
    "segxai/instances.py": "tests/test_instances.py",
    "plugins/segxai_ms_lesion/preprocessing.py": "tests/ms_lesion",
    "plugins/segxai_natural_image/interpolation.py": "tests/natural_image",
    "plugins/segxai_natural_image/processors.py": "tests/natural_image",
    "plugins/segxai_nnunet/normalisation.py": "tests/nnunet",
    "plugins/segxai_nnunet/preprocessing.py": "tests/nnunet",
    "plugins/segxai_nnunet/resampling.py": "tests/nnunet",
}
# The bar is between types nearly everywhere, where Python refuses any other operator.
LEFT_OUT = "core/ReplaceBinaryOperator_BitOr_"
# What takes most of the time of a short run of tests: imported once, then each run is forked.
PRELOADED = ("captum.attr", "monai.networks.nets", "scipy.ndimage", "xarray")
SECONDS, BYTES = 900, 6 * 2**30  # of one run: a change can make a loop, or an array, endless


def make_copy() -> None:
    """Make the copy that is mutated, with the tests and the real data of the checkout."""
    if not COPY.is_dir():
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, COPY], check=True)
        if (ROOT.parent / "shared").is_dir():
            (HOME / "shared").symlink_to(ROOT.parent / "shared")
    subprocess.run(["git", "checkout", "--quiet", "--", *MUTATED], cwd=COPY, check=True)
    drawn_at = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=COPY, text=True).strip()
    if subprocess.run(["git", "diff", "--quiet", drawn_at, "--", *MUTATED], cwd=ROOT).returncode:
        sys.exit(f"the sources have changed since the sample was drawn: remove {HOME} to draw anew")
    shutil.rmtree(COPY / "tests")
    shutil.copytree(ROOT / "tests", COPY / "tests")


def check_unchanged() -> None:
    """Check that the tests pass without any change: otherwise they would notice everything."""
    for folder in dict.fromkeys(MUTATED.values()):
        if exit_code([folder]) != 0:
            sys.exit(f"{folder} fails without any change")


def draw(count: int, seed: int) -> list[WorkItem]:
    """Draw places in the sources, and one of the changes of each.

    Places are drawn, not changes: there are eleven for an arithmetic operator and two for a number.
    """
    places: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    with use_db(HOME / "all.sqlite") as every:
        init(sorted(find_modules(Path(path) for path in MUTATED)), every, {})
        for item in every.work_items:
            (change,) = item.mutations
            if not change.operator_name.startswith(LEFT_OUT):
                places[str(change.module_path), tuple(change.start_pos)].append(change)
    generator, drawn = random.Random(seed), []
    for number, place in enumerate(generator.sample(sorted(places), count)):
        changes = sorted(places[place], key=lambda one: (one.operator_name, one.occurrence))
        drawn.append(WorkItem.single(f"{number:03}", generator.choice(changes)))
    return drawn


def run(session: WorkDB, *, again: bool, own: bool) -> None:
    """Try the changes that have no result yet, in the order drawn; again, those that survived."""
    items = session.pending_work_items
    if again:
        items = [item for item, result in session.completed_work_items if not result.is_killed]
    for item in sorted(items, key=lambda item: item.job_id):
        result = trial(item.mutations[0], own=own)
        session.set_result(item.job_id, result)
        print(item.job_id, item.mutations[0].module_path, result.output, flush=True)


def trial(change: MutationSpec, *, own: bool) -> WorkResult:
    """Make a change in the copy, run the tests that should notice it, and take it back."""
    operator = get_operator(change.operator_name)(**change.operator_args)
    with use_mutation(change.module_path, operator, change.occurrence) as (before, after):
        diff = "\n".join(unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm=""))
        steps = tests_of(change.module_path)
        for tests in steps[:1] if own else steps:
            if (code := exit_code(tests)) != 0:
                output = f"noticed by {' '.join(tests)} ({code})"
                return WorkResult(WorkerOutcome.NORMAL, output, TestOutcome.KILLED, diff)
    return WorkResult(WorkerOutcome.NORMAL, "survived", TestOutcome.SURVIVED, diff)


def tests_of(module: Path) -> list[list[str]]:
    """Return what pytest is given for a module: the module's own tests, then its folder's."""
    folder = next(tests for path, tests in MUTATED.items() if module.is_relative_to(path))
    inner = Path(*module.parts[1:]).with_name(f"test_{module.name}")
    own = Path("tests", str(inner).removeprefix("segxai_"))
    if not own.is_file():
        return [[folder]]
    return [[str(own)]] if own == Path(folder) else [[str(own)], [folder, f"--ignore={own}"]]


def exit_code(tests: list[str]) -> int | None:
    """Run some tests in a process of their own, until the first that fails."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(tests,))
    process.start()
    process.join()
    return process.exitcode


def _run(tests: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
    sys.exit(pytest.main([*options, *tests]))


def table(session: WorkDB) -> str:
    """Describe how many changes were noticed, by folder, and which were not."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for item, result in sorted(session.completed_work_items, key=lambda pair: pair[0].job_id):
        (change,) = item.mutations
        folder = next(path for path in MUTATED if change.module_path.is_relative_to(path))
        counts[folder]["killed" if result.is_killed else "survived"] += 1
        if not result.is_killed:
            place = f"{change.module_path}:{change.start_pos[0]}"
            survivors.append(f"{item.job_id} {place}\n{result.diff}\n")
    lines = [f"{folder}: {c['killed']} of {c.total()}" for folder, c in sorted(counts.items())]
    return "\n".join([*lines, "", *survivors])


def main() -> None:
    """Draw the sample if there is none, try what is left of it, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="try what survived once more")
    parser.add_argument("--own", action="store_true", help="only the tests of the module itself")
    parser.add_argument("--table", action="store_true", help="only print what was found so far")
    asked = parser.parse_args()
    HOME.mkdir(exist_ok=True)
    with use_db(HOME / "session.sqlite") as session:
        if not asked.table:
            enter_copy()
            if not session.num_work_items:
                check_unchanged()
                session.add_work_items(draw(asked.count, asked.seed))
            sys.dont_write_bytecode = True  # of changed sources; the check has compiled the others
            run(session, again=asked.again, own=asked.own)
        print(table(session))


def enter_copy() -> None:
    """Make the copy the current folder, import from it, and import what takes longest."""
    make_copy()
    os.chdir(COPY)
    paths = [str(COPY), str(COPY / "plugins")]
    sys.path[:0] = paths
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    for name in PRELOADED:
        import_module(name)


if __name__ == "__main__":
    main()
