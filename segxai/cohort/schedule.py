"""The schedule of a cohort: its cases one after the other, or on the workers of Dask."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from segxai.cohort.cases import CohortCase
from segxai.cohort.work import FAILED, Report, Work, run_case
from segxai.errors import SegxaiError, one_line, option
from segxai.text import size
from segxai.types import Progress

SHARE_OF_MEMORY = 0.8  # what workers may use of the machine, unless a budget is given


@dataclass(frozen=True)
class Workers:
    """Who works on the cases.

    Parameters
    ----------
    jobs : int
        Number of local processes; 1 for none but this one.
    scheduler : str, optional
        Address of a Dask scheduler that is there already.
    memory_gb : float, optional
        What all local processes together may use.
    """

    jobs: int = 1
    scheduler: str | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise SegxaiError(f"{option('jobs', self.jobs)}: give a number of 1 or more")
        if self.scheduler is not None and self.jobs > 1:
            raise SegxaiError(
                f"{option('jobs')} starts workers, {option('scheduler')} uses those that are "
                "there: give one of them"
            )
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise SegxaiError(f"{option('memory', self.memory_gb)}: give gigabytes above 0")


def run_cases(
    work: Work, cases: Sequence[CohortCase], workers: Workers, progress: Progress
) -> Iterator[Report]:
    """Explain all cases, and yield the report of each as it ends.

    A case whose worker dies goes to another one, and resumes where its file is.

    Raises
    ------
    SegxaiError
        If Dask is needed and missing, or no scheduler answers.
    """
    progress.begin("cases", len(cases))
    if workers.scheduler is None and workers.jobs == 1:
        for case in cases:
            part = OneOfMany(case.case, progress)
            report = run_case(work, case, part)
            part.finish()
            yield report
        return
    with _client(workers, progress) as client:
        yield from _on_dask(client, work, cases, progress)


class OneOfMany:
    """The progress of one case, as a part of that of all."""

    def __init__(self, case: str, whole: Progress) -> None:
        self._case, self._whole = case, whole
        self._share = self._done = 0.0

    def begin(self, what: str, total: float, done: float = 0.0) -> None:
        """Start a job; only explaining counts, which takes the longest."""
        self._share = 1 / total if what == "explain" and total else 0.0
        self._count(done * self._share)

    def advance(self, amount: float) -> None:
        """Count this amount of work as done."""
        self._count(amount * self._share)

    def say(self, text: str) -> None:
        """Show a line, with the name of the case."""
        self._whole.say(f"{self._case}: {text}")

    def finish(self) -> None:
        """Count what is left of the case, whatever became of it."""
        self._count(1.0)

    def _count(self, part: float) -> None:
        part = max(min(part, 1 - self._done), 0.0)
        self._done += part
        self._whole.advance(part)


def _on_dask(
    client: Any, work: Work, cases: Sequence[CohortCase], progress: Progress
) -> Iterator[Report]:
    from distributed import as_completed

    futures = {client.submit(run_case, work, case, pure=False): case for case in cases}
    for future in as_completed(futures):
        progress.advance(1.0)
        case = futures[future]
        try:
            report = future.result()
        except Exception as error:  # of Dask: workers died again and again
            message = f"{type(error).__name__}: {one_line(error, limit=500)}"
            report = Report(case.case, case.patient, case.session, FAILED, "", 0.0, message)
        yield report


@contextmanager
def _client(workers: Workers, progress: Progress) -> Iterator[Any]:
    """Connect to the workers, and let local ones go at the end."""
    try:
        from distributed import Client, LocalCluster
        from distributed.system import MEMORY_LIMIT
    except ImportError:
        asked = option("jobs", workers.jobs)
        if workers.scheduler is not None:
            asked = option("scheduler", workers.scheduler)
        raise SegxaiError(f"{asked} needs Dask: pip install 'segxai[cluster]'") from None
    if workers.scheduler is not None:
        try:
            with Client(workers.scheduler, timeout=20) as client:
                yield client
        except (OSError, ValueError) as error:
            raise SegxaiError(
                f"{option('scheduler', workers.scheduler)}: no Dask scheduler answers "
                f"({one_line(error)})"
            ) from error
        return
    budget = MEMORY_LIMIT * SHARE_OF_MEMORY
    if workers.memory_gb is not None:
        budget = workers.memory_gb * 1e9
    each = int(budget / workers.jobs)
    progress.say(f"{workers.jobs} workers of one thread, with {size(each)} of memory each")
    with (
        LocalCluster(
            n_workers=workers.jobs,
            threads_per_worker=1,
            memory_limit=each,
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
