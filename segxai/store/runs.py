"""Runs: which run of a result file a task resumes, or why it may not change the file."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segxai.errors import SegxaiError
from segxai.store import hdf5
from segxai.store.schema import difference

# How maps were computed, and which were asked for: no map's values depend on these.
HOW = ("device", "engine", "batch")
CHANGES_NO_VALUE = (*HOW, "instances", "warnings", "started", "resumed")


def run_name(
    path: Path | None,
    case_provenance: Mapping[str, Any],
    run_provenance: Mapping[str, Any],
    *,
    append: bool,
) -> str:
    """Choose the name of the run that a task belongs to: one in the file, or a new one.

    Parameters
    ----------
    path : Path
        The result file; it need not exist. None if it is created anew.
    append : bool
        Whether a new run, or more instances of an old one, may be added to an existing file.

    Raises
    ------
    SegxaiError
        If the file holds another case, or holds another run and `append` is False. The first
        difference is named.
    """
    if path is None or not path.exists():
        return new_name(run_provenance, ())
    stored_case = hdf5.read_provenance(path)
    stored_case.pop("created", None)
    differs = difference(stored_case, case_provenance)
    if differs:
        raise SegxaiError(
            f"{path} holds another case or model: {differs}; name another --out, or --overwrite it"
        )
    stored = hdf5.runs(path)
    wanted = comparable(run_provenance)
    for name, provenance in stored.items():
        if not difference(comparable(provenance), wanted):
            _check_selection(path, provenance, run_provenance, append=append)
            return name
    if stored and not append:
        differs = difference(comparable(next(iter(stored.values()))), wanted)
        raise SegxaiError(
            f"{path} holds another run: {differs}; give --append to add this one, "
            "--overwrite to start again, or another --out"
        )
    return new_name(run_provenance, stored)


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
    """Make a name for a run: method and aggregator, plus a number if that name is taken."""
    parts = (run_provenance["method"], run_provenance["aggregator"])
    base = "-".join(part for part in parts if part).replace("/", "-")  # HDF5's path separator
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def _check_selection(
    path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any], *, append: bool
) -> None:
    if stored["instances"] != asked["instances"] and not append:
        raise SegxaiError(
            f"{path} holds this run for instances {stored['instances']}, but now "
            f"{asked['instances']} are asked for; give --append to add to it, or --overwrite"
        )


def comparable(run_provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's provenance without the entries that cannot change a value of its maps."""
    return {name: value for name, value in run_provenance.items() if name not in CHANGES_NO_VALUE}
