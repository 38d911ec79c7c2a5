"""Resume: which run of a result file a task goes on with, or why it may not touch the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segxai import storage
from segxai.errors import SegxaiError
from segxai.results import difference

# How a map was computed, and which of them were asked for: no map's values depend on these.
CHANGES_NO_VALUE = ("device", "batch", "instances", "started")


def run_name(
    path: Path | None,
    case_provenance: Mapping[str, Any],
    run_provenance: Mapping[str, Any],
    *,
    append: bool,
) -> str:
    """The name of the run that a task belongs to: one of the file's own, or a new one.

    Parameters
    ----------
    path : Path
        The result file; it need not exist. None for a file that is made anew.
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
    stored_case = storage.read_provenance(path)
    differs = difference(_kept(stored_case, ("created",)), case_provenance)
    if differs:
        raise SegxaiError(
            f"{path} holds another case or model: {differs}; name another --out, or --overwrite it"
        )
    stored = storage.runs(path)
    wanted = _kept(run_provenance, CHANGES_NO_VALUE)
    for name, provenance in stored.items():
        if not difference(_kept(provenance, CHANGES_NO_VALUE), wanted):
            _check_selection(path, provenance, run_provenance, append=append)
            return name
    if stored and not append:
        differs = difference(_kept(next(iter(stored.values())), CHANGES_NO_VALUE), wanted)
        raise SegxaiError(
            f"{path} holds another run: {differs}; give --append to add this one, "
            "--overwrite to start again, or another --out"
        )
    return new_name(run_provenance, stored)


def new_name(run_provenance: Mapping[str, Any], taken: Mapping[str, Any] | tuple[()]) -> str:
    """A name for a run: method and aggregator, and a number where that is taken."""
    parts = (run_provenance["method"], run_provenance["aggregator"])
    base = "-".join(part for part in parts if part)
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def _check_selection(
    path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any], *, append: bool
) -> None:
    if stored["instances"] != asked["instances"] and not append:
        raise SegxaiError(
            f"{path} holds this run for instances {stored['instances']}, now asked for "
            f"{asked['instances']}; give --append to add to it, or --overwrite"
        )


def _kept(provenance: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in provenance.items() if name not in left_out}
