"""Pairs: two runs of a case, their instances matched, and every measure of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from segxai.compare.measures import Overlay, measured
from segxai.compare.members import WHOLE_CLASS, Member, in_same_unit
from segxai.compare.neighbourhood import REACH_MM, Neighbourhood, intersection
from segxai.compare.runs import Key
from segxai.geometry import Grid
from segxai.matching import assigned, overlaps

HEAT = "heat"  # the channel of a comparison with a map that has none
Values = dict[str, dict[str, float]]  # of each channel, the measures by name


@dataclass(frozen=True)
class Matched:
    """The instances that two runs share.

    Parameters
    ----------
    pairs : list of (int, int)
        The label in the first run and in the second.
    alone : tuple of list of int
        The labels of either that have no partner.
    """

    pairs: list[tuple[int, int]]
    alone: tuple[list[int], list[int]]


def matched(first: Member, second: Member) -> Matched:
    """Match the instances of two runs one to one, so that the sum of their IoUs is the largest.

    A class-level map is compared with the map of each instance, around that instance.
    """
    if first.is_class_level != second.is_class_level:
        one = second if first.is_class_level else first
        pairs = [(WHOLE_CLASS, n) if first.is_class_level else (n, WHOLE_CLASS) for n in one.maps]
        return Matched(pairs, ([], []))
    labels, others = list(first.domains), list(second.domains)
    chosen = assigned(overlaps(list(first.domains.values()), list(second.domains.values())))
    pairs = [(labels[i], others[j]) for i, j in np.argwhere(chosen)]
    partners = dict(pairs)
    alone = (
        [label for label in labels if label not in partners],
        [label for label in others if label not in partners.values()],
    )
    return Matched(pairs, alone)


@dataclass(frozen=True)
class Comparer:
    """Compares maps of one case; what was compared once is kept.

    Parameters
    ----------
    grid : Grid
        The grid of the first result, whose steps all others have.
    channels : tuple of str
        Names of the channels, in the shared order.
    """

    grid: Grid
    channels: tuple[str, ...]
    _done: dict[tuple[Key, int, Key, int, bool], Values] = field(default_factory=dict)

    def compare(
        self, first: Member, second: Member, pair: tuple[int, int], *, as_heat: bool = False
    ) -> Values:
        """Measure how alike the maps of an instance in two runs are, by channel.

        Parameters
        ----------
        pair : (int, int)
            The instance's label in each.
        as_heat : bool
            Whether channels are summed up, as for a comparison with a heat map.
        """
        known = (first.run.key, pair[0], second.run.key, pair[1], as_heat)
        if known not in self._done:
            near = neighbours(first, second, pair)
            units = in_same_unit(first, second)
            self._done[known] = self.values(*near, units=units, as_heat=as_heat)
        return self._done[known]

    def values(
        self, first: Neighbourhood, second: Neighbourhood, *, units: bool, as_heat: bool = False
    ) -> Values:
        """Measure how alike two maps are, by channel; NaN where they do not meet.

        Parameters
        ----------
        units : bool
            Whether they have the same unit.
        """
        found: Values = {}
        for channel, overlay, is_mixed in self._overlays(first, second, as_heat):
            signs = channel != HEAT
            found[channel] = measured(overlay, signs=signs, units=units and not is_mixed)
        return found

    def _overlays(
        self, first: Neighbourhood, second: Neighbourhood, as_heat: bool
    ) -> Iterator[tuple[str, Overlay, bool]]:
        """Yield the channel, both maps, and whether only one of the maps is a heat map."""
        box = intersection(first.box, second.box)
        if box is None:
            return
        first, second = first.in_box(box), second.in_box(box)
        near = (first.distance <= REACH_MM) & (second.distance <= REACH_MM)
        compared = near & (_support(first) | _support(second))
        is_mixed = first.is_heat != second.is_heat
        variance = _variance(first, second)
        steps = self.grid.affine[:-1, :-1]
        if is_mixed or as_heat or first.is_heat:
            yield HEAT, Overlay(_heat(first), _heat(second), compared, steps), is_mixed
            return
        for place, channel in enumerate(self.channels):
            one, other = (near.values[place].astype(float) for near in (first, second))
            part = None if variance is None else variance[place]
            yield channel, Overlay(one, other, compared, steps, part), False


def neighbours(
    first: Member, second: Member, pair: tuple[int, int]
) -> tuple[Neighbourhood, Neighbourhood]:
    """Read both maps of an instance, each around its own domain; class-level maps have none."""
    mine = (second, pair[1]) if _borrows(first, second) else (first, pair[0])
    theirs = (first, pair[0]) if _borrows(second, first) else (second, pair[1])
    return first.near(pair[0], *mine), second.near(pair[1], *theirs)


def _borrows(one: Member, other: Member) -> bool:
    return one.is_class_level and not other.is_class_level


def _support(one: Neighbourhood) -> np.ndarray:
    """Mark where a map is not 0 in all channels."""
    return np.asarray(one.values != 0 if one.is_heat else (one.values != 0).any(axis=0))


def _heat(one: Neighbourhood) -> Float[np.ndarray, "*box"]:
    """Return a map without channels: the sum over channels of the magnitudes."""
    values = one.values.astype(float)
    return values if one.is_heat else abs(values).sum(axis=0)


def _variance(first: Neighbourhood, second: Neighbourhood) -> Float[np.ndarray, "*shape"] | None:
    if first.error is None or second.error is None or first.is_heat or second.is_heat:
        return None
    return np.square(first.error, dtype=float) + np.square(second.error, dtype=float)


def pairs_of(members: Sequence[Member]) -> Iterator[tuple[Member, Member]]:
    """Yield each two members once, in their order."""
    for place, first in enumerate(members):
        for second in members[place + 1 :]:
            yield first, second


def shared_instances(members: Sequence[Member]) -> Iterator[list[tuple[Member, int]]]:
    """Yield each instance of the first run that has instances, with its label in all that share it.

    All others are matched with that run, which comes first.
    """
    first = next((one for one in members if not one.is_class_level), members[0])
    others = [one for one in members if one is not first]
    partners = [dict(matched(first, one).pairs) for one in others]
    for label in first.maps:
        shared = [(one, known[label]) for one, known in zip(others, partners, strict=True)
                  if label in known]  # fmt: skip
        yield [(first, label), *shared]
