"""Bounds: how alike maps are that have nothing in common, and maps that differ by chance alone."""

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from segxai.compare.measures import MEASURES
from segxai.compare.members import Member, in_same_unit
from segxai.compare.pairs import HEAT, Comparer, Values, matched, neighbours

PAIRINGS = 50  # of maps of different instances, for the floor (Arun et al. 2021)
NAN = float("nan")


def floor(
    comparer: Comparer,
    first: Member,
    second: Member,
    pairs: Sequence[tuple[int, int]],
    seed: int,
) -> Values:
    """Measure how alike the maps of different instances are: the mean over 50 pairings at most.

    The map of one instance in the first run is compared with that of another one in the second,
    which is moved so that the centres of the domains coincide, in the box that both cover (Arun et
    al., Radiology: AI 2021;3:e200267).

    Parameters
    ----------
    pairs : sequence of (int, int)
        The labels of each instance.
    seed : int
        Draws the pairings, if there are more than 50.

    Returns
    -------
    dict of dict of float
        Empty if there is a single instance.
    """
    choices = list(permutations(range(len(pairs)), 2))
    drawn = np.random.default_rng(seed).permutation(len(choices))[:PAIRINGS]
    found = []
    for mine, other in (choices[number] for number in drawn):
        here, _ = neighbours(first, second, pairs[mine])
        _, there = neighbours(first, second, pairs[other])
        units = in_same_unit(first, second)
        found.append(comparer.values(here, there.moved_to(here), units=units))
    return mean_of(found)


def ceiling(
    comparer: Comparer,
    first: Member,
    second: Member,
    pair: tuple[int, int],
    members: Sequence[Member],
) -> Values:
    """Measure how alike maps of an instance are that differ in the seed alone.

    That is the mean over all runs that differ from a run in the seed alone; 1 (for distances 0) if
    nothing in it depends on the seed. Of the two runs' ceilings the lower one.

    Returns
    -------
    dict of dict of float
        Empty where it is not known of both runs.
    """
    as_heat = HEAT in comparer.compare(first, second, pair)
    own = [
        _reproduced(comparer, one, label, members, as_heat=as_heat)
        for one, label in ((first, pair[0]), (second, pair[1]))
    ]
    if not all(own):
        return {}
    return {
        channel: {
            measure.name: _lower(
                [one[channel].get(measure.name, NAN) for one in own], measure.is_similarity
            )
            for measure in MEASURES
        }
        for channel in own[0].keys() & own[1].keys()
    }


def _lower(values: Sequence[float], is_similarity: bool) -> float:
    return min(values) if is_similarity else max(values)


def _reproduced(
    comparer: Comparer, one: Member, label: int, members: Sequence[Member], *, as_heat: bool
) -> Values:
    """Measure how alike a run's map of an instance is to those of its twins."""
    found = []
    for twin in members:
        if one.run.is_twin_of(twin.run):
            partner = dict(matched(one, twin).pairs).get(label)
            if partner is not None:
                found.append(comparer.compare(one, twin, (label, partner), as_heat=as_heat))
    if not found and one.run.is_deterministic:
        same = {m.name: NAN if m.of_itself is None else m.of_itself for m in MEASURES}
        return dict.fromkeys([HEAT] if as_heat else comparer.channels, same)
    return mean_of(found)


def mean_of(found: Iterable[Values]) -> Values:
    """Average measures over comparisons, by channel; what is NaN is left out."""
    found = list(found)
    collected: dict[str, dict[str, list[float]]] = {}
    for values in found:
        for channel, measures in values.items():
            for name, value in measures.items():
                collected.setdefault(channel, {}).setdefault(name, []).append(value)
    return {
        channel: {name: _mean(values) for name, values in measures.items()}
        for channel, measures in collected.items()
    }


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if not np.isnan(value)]
    return float(np.mean(finite)) if finite else NAN
