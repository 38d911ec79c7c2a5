"""Runs: which run of a result file a task resumes, or why it may not change the file."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from segxai.errors import SegxaiError, option
from segxai.store import hdf5
from segxai.store.schema import difference

# How maps were computed, and which were asked for: no map's values depend on these.
CHANGES_NO_VALUE = ("compute", "labels", "warnings", "started", "resumed")
FOUND_BY_RUNNING = ("created", "matches")  # so nothing to compare them with before


def run_names(
    path: Path | None,
    case_provenance: Mapping[str, Any],
    wanted: Sequence[Mapping[str, Any]],
    *,
    append: bool,
) -> tuple[str, ...]:
    """Choose the names of the runs that a task consists of: those in the file, or new ones.

    Parameters
    ----------
    path : Path
        The result file; it need not exist. None if it is created anew.
    wanted : sequence of mapping
        The provenance of each run.
    append : bool
        Whether a new run, or more instances of an old one, may be added to an existing file.

    Raises
    ------
    SegxaiError
        If the file holds another case, or holds other runs and `append` is False. The first
        difference is named. Also if it is damaged.
    """
    stored: dict[str, Mapping[str, Any]] = {}
    if path is not None and path.exists():
        _check_case(path, case_provenance)
        stored.update(hdf5.runs(path))
    names = []
    if path is not None and not append:
        _check_runs(path, stored, wanted)
    for provenance in wanted:
        name = _same_run(stored, provenance)
        if name is None:
            name = new_name(provenance, stored)
            stored[name] = provenance
        elif path is not None:
            _check_selection(path, stored[name], provenance, append=append)
        names.append(name)
    return tuple(names)


def _check_case(path: Path, case_provenance: Mapping[str, Any]) -> None:
    hdf5.open_result(path).close()  # checks all of the file: it is written to from now on
    stored = hdf5.read_provenance(path)
    stored = {name: one for name, one in stored.items() if name not in FOUND_BY_RUNNING}
    if "folds" not in case_provenance:  # no map depends on them, and the file has what they tell
        stored.pop("folds", None)
    differs = difference(stored, case_provenance)
    if differs:
        raise SegxaiError(
            f"{path} holds another case or model: {differs}; name another {option('out')}, or give "
            f"{option('overwrite')}"
        )


def _same_run(stored: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> str | None:
    """Find the run in a file whose maps are those of the wanted one."""
    return next(
        (
            name
            for name, provenance in stored.items()
            if not difference(comparable(provenance), comparable(wanted))
        ),
        None,
    )


def _check_runs(
    path: Path, stored: Mapping[str, Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]
) -> None:
    """Check that a file has the wanted runs; it may lack some if it has no other ones."""
    asked = [comparable(one) for one in wanted]
    if all(_same_run(stored, one) for one in wanted):
        return
    for provenance in map(comparable, stored.values()):
        differences = [difference(provenance, one) for one in asked]
        if all(differences):
            raise SegxaiError(
                f"{path} holds another run: {differences[0]}; give {option('append')} to add this "
                f"one, {option('overwrite')} to start again, or another {option('out')}"
            )


def is_complete(path: Path, run: str, labels: Collection[int] | None) -> bool:
    """Return whether a result file has all maps that a run is asked for.

    Parameters
    ----------
    labels : collection of int, optional
        Labels of the instances; by default all in the file.
    """
    if not path.exists():
        return False
    wanted = hdf5.instance_labels(path) if labels is None else set(labels)
    return wanted <= hdf5.finished(path, run)


def new_name(run_provenance: Mapping[str, Any], taken: Mapping[str, Any] | tuple[()]) -> str:
    """Make a name for a run: method, aggregator, score, contrast, and a number if that is taken.

    The logit goes without saying.
    """
    score = run_provenance["score"]
    named, contrast = score != "logit" and score, run_provenance.get("contrast")
    parts = (run_provenance["method"], run_provenance["aggregator"], named, contrast)
    base = "-".join(part for part in parts if part).replace("/", "-")  # HDF5's path separator
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def _check_selection(
    path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any], *, append: bool
) -> None:
    if stored.get("labels") != asked["labels"] and not append:
        raise SegxaiError(
            f"{path} holds this run for instances {stored.get('labels')}, but now "
            f"{asked['labels']} are asked for; give {option('append')} to add to it, or "
            f"{option('overwrite')}"
        )


def comparable(run_provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's provenance without the entries that cannot change a value of its maps."""
    return {name: value for name, value in run_provenance.items() if name not in CHANGES_NO_VALUE}
