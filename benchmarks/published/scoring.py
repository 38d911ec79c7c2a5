"""Scores of the model in the results beside a folder of experiments, as a cohort's are."""

from contextlib import ExitStack
from pathlib import Path

from segxai.store.hdf5 import open_result
from segxai.tables.scores import scores_of


def write_scores(experiments: Path) -> None:
    """Write `scores.csv`: every case, and all together."""
    if experiments.name != "experiments":
        return
    with ExitStack() as stack:
        results = sorted(experiments.parent.glob("*.h5"))
        table = scores_of(stack.enter_context(open_result(path)) for path in results)
    table.to_csv(experiments / "scores.csv", index=False)
