"""From observations to a verdict, by one rule for all claims."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tables import FEWEST


@dataclass(frozen=True)
class Observation:
    """What one experiment says about a claim, in one setting.

    Parameters
    ----------
    setting : mapping
        Under what it was made: the data, the model, and the score, the fill or the aggregator.
    text : str
        The numbers.
    n : int
        How many lesions, places or patients it rests on: the smallest group that is compared.
    holds : bool, optional
        Whether the claim holds there; None if that cannot be told.
    """

    setting: Mapping[str, str]
    text: str
    n: int
    holds: bool | None


Observations = Iterator[Observation]
Alternative = tuple[tuple[str, str], ...]  # settings by name, all of which must be met
MOST_ALTERNATIVES = 3  # in a verdict


def holds(says: object, n: int, fewest: int = FEWEST) -> bool | None:
    """Tell whether a claim holds; None below the fewest lesions, places or patients."""
    return bool(says) if n >= fewest else None


def verdict(observations: Sequence[Observation]) -> str:
    """Judge a claim.

    "agrees" or "disagrees" if all observations that tell anything say the same. Otherwise settings
    are looked for that tell those where it holds from the others: "agrees only if score is
    probability". If there are none, or they take too many words, it is counted.
    """
    known = [one for one in observations if one.holds is not None]
    if not known:
        return f"cannot tell (n = {max((one.n for one in observations), default=0)})"
    if len({one.holds for one in known}) == 1:
        return "agrees" if known[0].holds else "disagrees"
    return _condition(known) or _counted(known)


def _condition(known: Sequence[Observation]) -> str:
    """Find alternatives that separate what holds from what does not; "" if none do, or too many.

    Each is a setting, or two at once, under which it always holds. The one that explains most of
    what is left is taken first, and of those the shortest.
    """
    left = [one for one in known if one.holds]
    bad = [one for one in known if not one.holds]
    possible = [alone for one in left for alone in _alternatives(one)]
    sound = [some for some in dict.fromkeys(possible) if not any(_is_met(some, x) for x in bad)]
    found: list[Alternative] = []
    while left and sound and len(found) < MOST_ALTERNATIVES:
        found.append(max(sound, key=lambda some: (sum(_is_met(some, x) for x in left), -len(some))))
        left = [one for one in left if not _is_met(found[-1], one)]
    return "" if left else f"agrees only if {' or '.join(map(_words, found))}"


def _alternatives(one: Observation) -> Iterator[Alternative]:
    settings = tuple(one.setting.items())
    yield from ((setting,) for setting in settings)
    yield from combinations(settings, 2)


def _is_met(some: Alternative, one: Observation) -> bool:
    return all(one.setting.get(name, "") == value for name, value in some)


def _words(some: Alternative) -> str:
    return " and ".join(f"{name} is {value or 'any'}" for name, value in some)


def _counted(known: Sequence[Observation]) -> str:
    """Count in how many settings a claim holds, and where all of a setting agree."""
    held = [one for one in known if one.holds]
    text = f"agrees only in {len(held)} of {len(known)} settings"
    always = "; ".join(_always(known))
    return f"{text} (always if {always})" if always else text


def _always(known: Sequence[Observation]) -> Iterator[str]:
    """Name the values of single settings with which it always holds, two times or more."""
    for name in dict.fromkeys(name for one in known for name in one.setting):
        for value in dict.fromkeys(one.setting.get(name, "") for one in known):
            own = [one.holds for one in known if one.setting.get(name, "") == value]
            if value and len(own) > 1 and all(own):
                yield f"{name} is {value}"
