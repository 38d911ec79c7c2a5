"""The work on one case of a cohort: a result file, and a report of what became of it."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from segxai.cohort.cases import CohortCase
from segxai.cohort.phantoms import phantom
from segxai.errors import SegxaiError, SegxaiWarning, collecting, one_line
from segxai.load.limits import at_most
from segxai.load.masks import with_regions
from segxai.models.model import Model
from segxai.pipeline import explain_case
from segxai.plugins.adapter import Adapter
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.store.atomic_file import sole_writer
from segxai.store.hdf5 import instance_labels
from segxai.types import Case, Progress, Quiet

DONE, EMPTY, FAILED = "done", "empty", "failed"


@dataclass(frozen=True)
class Work:
    """What is done with every case; another process can do it.

    Parameters
    ----------
    model : Model
        Its checkpoint is used for cases without one of their own.
    options : Options
        As for a single run.
    folder : Path
        Where results go, absolute.
    max_voxels : int, optional
        The largest image to read.
    append, overwrite : bool
        As `explain_case` takes them.
    """

    model: Model
    options: Options
    folder: Path
    max_voxels: int | None = None
    append: bool = False
    overwrite: bool = False

    def adapters(self, case: CohortCase) -> tuple[Adapter, ...]:
        """Load the model with the weights of a case, then with those of each fold."""
        model = self.model
        if case.checkpoint is not None:
            model = replace(model, checkpoint=case.checkpoint)

        def files_of(channels: tuple[str, ...]) -> dict[str, Path]:
            return {name: case.images[name] for name in channels}

        return model.load(files_of), *model.load_folds(files_of)


@dataclass(frozen=True)
class Report:
    """What became of a case.

    Parameters
    ----------
    status : str
        "done"; "empty": the model found nothing, and nothing was drawn; "failed".
    file : str
        Name of its result; "" if it failed.
    seconds : float
        How long it took, this time.
    message : str
        Why it failed.
    warnings : str
        All warnings, one behind the other.
    """

    case: str
    patient: str
    session: str
    status: str
    file: str
    seconds: float
    message: str = ""
    warnings: str = ""

    @property
    def columns(self) -> dict[str, Any]:
        """The report as columns of a table."""
        return asdict(self)


def run_case(work: Work, case: CohortCase, progress: Progress | None = None) -> Report:
    """Explain one case; what goes wrong with it is reported, and stops no other case."""
    started, status, message = monotonic(), FAILED, ""
    with collecting() as texts, warnings.catch_warnings():
        warnings.simplefilter("ignore", SegxaiWarning)  # they are in the report
        try:
            status = _explain(work, case, progress or Quiet())
        except SegxaiError as error:
            message = one_line(error, limit=500)
        except Exception as error:
            message = f"{type(error).__name__}: {one_line(error, limit=500)}"
    return Report(
        case=case.case,
        patient=case.patient,
        session=case.session,
        status=status,
        file="" if status == FAILED else case.file,
        seconds=round(monotonic() - started, 2),
        message=message,
        warnings="; ".join(texts),
    )


def _explain(work: Work, case: CohortCase, progress: Progress) -> str:
    out = work.folder / case.file
    with at_most(work.max_voxels), sole_writer(out):
        adapter, *folds = work.adapters(case)
        loaded = _load(adapter, case)
        task = prepare(adapter, loaded, work.options, folds=folds, progress=progress)
        places: Mapping[str, bool] = {"append": work.append, "overwrite": work.overwrite}
        explain_case(task, out, may_be_empty=True, **places)
    return DONE if instance_labels(out) else EMPTY


def _load(adapter: Adapter, case: CohortCase) -> Case:
    if case.phantom:
        loaded = phantom(adapter.embedded_case(), case.phantom)
    else:
        loaded = adapter.read(case.images, case.reference)
    if case.regions is not None:
        loaded = with_regions(loaded, case.regions)
    return replace(loaded, name=case.case, patient=case.patient, session=case.session)
