"""Notes: what a reader of a comparison must know, in words."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from segxai.compare.bounds import PAIRINGS
from segxai.compare.neighbourhood import BORDER_MM, REACH_MM
from segxai.compare.rows import CaseRows
from segxai.compare.runs import ComparedRun, Key
from segxai.statistics.estimate import too_few

if TYPE_CHECKING:
    from segxai.compare.comparison import Compared

RULE = (
    "instances are matched by the overlap of their domains, one to one, so that the sum of the "
    "IoUs is the largest"
)


def notes_on(
    compared: "Compared", by_case: Mapping[str, CaseRows], units: Mapping[Key, str]
) -> Iterator[str]:
    """Yield the notes on a comparison, the general ones first.

    Parameters
    ----------
    by_case : mapping
        The rows of each case.
    units : mapping
        The unit of each run's maps.
    """
    yield f"{RULE}; {_compared_pairs(by_case)}"
    unit = "mm (pixels in pictures)"
    yield (
        f"maps are compared within {REACH_MM:g} {unit} of the domain, where either is not 0; the "
        f"border is {BORDER_MM:g} {unit} wide, outside of the domain"
    )
    yield from _about_units(compared, units)
    yield from _about_bounds(compared, by_case)
    yield from _about_patients(compared)
    yield from _about_samples(compared)
    yield from _left_out(compared, by_case)


def _compared_pairs(by_case: Mapping[str, CaseRows]) -> str:
    matches = [one for found in by_case.values() for one in found.matches.values()]
    shared = sum(len(one.pairs) for one in matches)
    alone = sum(len(labels) for one in matches for labels in one.alone)
    return f"{shared} pairs of maps, {alone} instances without a partner"


def _about_units(compared: "Compared", units: Mapping[Key, str]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for key, unit in units.items():
        kinds.setdefault(unit, []).append(compared.names[key])
    if len(kinds) == 1:
        yield f"all maps are in {next(iter(kinds))}, so that their values are compared, too"
        return
    listed = "; ".join(f"{unit}: {', '.join(names)}" for unit, names in kinds.items())
    yield (
        "SSIM and relative difference compare values, and are left out for maps in different units "
        f"({listed}); the other measures do not depend on the scale"
    )


def _about_bounds(compared: "Compared", by_case: Mapping[str, CaseRows]) -> Iterator[str]:
    pairs = {pair for found in by_case.values() for pair, one in found.matches.items() if one.pairs}
    floorless = pairs & {pair for found in by_case.values() for pair in found.without_floor}
    yield (
        f"floor: the mean over at most {PAIRINGS} pairs of different instances of a case, moved "
        "centre on centre, in the box that both cover"
        + (f"; none for {len(floorless)} of {len(pairs)} pairs of runs, where a case has a single "
           "instance" if floorless else "")
    )  # fmt: skip
    ceilingless = pairs & {pair for found in by_case.values() for pair in found.without_ceiling}
    yield (
        "ceiling: how alike runs are that differ in the seed alone, the lower value of both; 1 "
        "where nothing depends on the seed"
        + (f"; none for {len(ceilingless)} of {len(pairs)} pairs of runs: repeat the others with "
           "another --seed" if ceilingless else "")
    )  # fmt: skip


def _about_patients(compared: "Compared") -> Iterator[str]:
    count = len(set(compared.patients.values()))
    yield too_few(count) or f"intervals: 95 %, over the means of {count} patients (t)"


def _about_samples(compared: "Compared") -> Iterator[str]:
    sampled = [name for key, name in compared.names.items() if _rows(compared.runs[key])]
    if sampled:
        listed = ", ".join(sampled)
        yield f"part of a difference is chance, as rows were sampled: {listed}"


def _rows(run: ComparedRun) -> int:
    return int(run.how.get("rows") or 0)


def _left_out(compared: "Compared", by_case: Mapping[str, CaseRows]) -> Iterator[str]:
    """Say which instances and cases are in one of two runs only."""
    for case, found in by_case.items():
        prefix = f"case {case}: " if len(by_case) > 1 else ""
        for (first, second), one in found.matches.items():
            for key, other, labels in zip((first, second), (second, first), one.alone, strict=True):
                if labels:
                    listed = ", ".join(map(str, labels))
                    yield (
                        f"{prefix}{compared.names[key]}: instances {listed} have no partner in "
                        f"{compared.names[other]}"
                    )
        if not found.matches:
            yield f"case {case} is left out: it has a single run"
