"""Rows: one for each pair of runs, instance, channel and measure of a case."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segxai.compare.bounds import ceiling, floor
from segxai.compare.measures import MEASURES
from segxai.compare.members import WHOLE_CLASS, Member
from segxai.compare.neighbourhood import energy_shares
from segxai.compare.pairs import HEAT, Comparer, Matched, Values, matched, pairs_of
from segxai.compare.runs import Key

NAN = float("nan")
Row = dict[str, Any]
Pair = tuple[Key, Key]


@dataclass(frozen=True)
class CaseRows:
    """The rows of one case, and what must be said about them.

    Parameters
    ----------
    rows : list of dict
        The runs are named by their keys.
    matches : dict of Matched
        The instances that each two runs share.
    without_floor, without_ceiling : set of (Key, Key)
        Pairs of runs that have none.
    """

    rows: list[Row] = field(default_factory=list)
    matches: dict[Pair, Matched] = field(default_factory=dict)
    without_floor: set[Pair] = field(default_factory=set)
    without_ceiling: set[Pair] = field(default_factory=set)


def rows_of(members: Sequence[Member], comparer: Comparer, seed: int) -> CaseRows:
    """Compare each two runs of a case, instance by instance.

    Parameters
    ----------
    members : sequence of Member
        The runs of the case.
    comparer : Comparer
        Of the case.
    seed : int
        Draws the pairings of the floor.
    """
    found = CaseRows()
    for first, second in pairs_of(members):
        keys = first.run.key, second.run.key
        matching = found.matches[keys] = matched(first, second)
        if not matching.pairs:
            continue
        lowest = floor(comparer, first, second, matching.pairs, seed)
        if not lowest:
            found.without_floor.add(keys)
        for pair in matching.pairs:
            highest = ceiling(comparer, first, second, pair, members)
            if not highest:
                found.without_ceiling.add(keys)
            values = comparer.compare(first, second, pair)
            known = {"first": keys[0], "second": keys[1], "instance": pair[0]}
            known["other_instance"] = pair[1]
            for row in _rows(values, lowest, highest, comparer.grid.length_unit):
                found.rows.append({**known, **row})
    for member in members:
        found.rows.extend(_energy(member, comparer.channels))
    return found


def _rows(values: Values, lowest: Values, highest: Values, length: str) -> Iterator[Row]:
    for channel, measures in values.items():
        for measure in MEASURES:
            if measure.name in measures:
                is_bounded = measure.of_itself is not None
                low, high = (
                    bound.get(channel, {}).get(measure.name, NAN) if is_bounded else NAN
                    for bound in (lowest, highest)
                )
                yield {
                    "channel": channel,
                    "metric": measure.name,
                    "value": measures[measure.name],
                    "unit": length if measure.is_length else "",
                    "floor": low,
                    "ceiling": high,
                }


def _energy(member: Member, channels: Sequence[str]) -> Iterator[Row]:
    """Yield where the energy of each map is; a row without a second run."""
    for label in member.maps:
        if label == WHOLE_CLASS:
            continue
        shares: Mapping[str, np.ndarray] = energy_shares(member.near(label, member, label))
        for name, values in shares.items():
            for channel, value in zip(
                [HEAT] if values.ndim == 0 else channels, np.atleast_1d(values), strict=True
            ):
                yield {
                    "first": member.run.key,
                    "second": None,
                    "instance": label,
                    "channel": channel,
                    "metric": name,
                    "value": float(value),
                    "unit": "",
                    "floor": NAN,
                    "ceiling": NAN,
                }
