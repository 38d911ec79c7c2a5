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


def holds(says: object, n: int, fewest: int = FEWEST) -> bool | None:
    """Tell whether a claim holds; None below the fewest lesions, places or patients."""
    return bool(says) if n >= fewest else None


def verdict(observations: Sequence[Observation]) -> str:
    """Judge a claim.

    "agrees" or "disagrees" if all observations that tell anything say the same. Otherwise the
    fewest settings are looked for that tell those where it holds from the others: "agrees only
    if score is probability". If no two settings do, it is counted.
    """
    known = [one for one in observations if one.holds is not None]
    if not known:
        return f"cannot tell (n = {max((one.n for one in observations), default=0)})"
    if len({one.holds for one in known}) == 1:
        return "agrees" if known[0].holds else "disagrees"
    return _condition(known) or _counted(known)


def _condition(known: Sequence[Observation]) -> str:
    """Find one or two settings that separate what holds from what does not; "" if none do."""
    names = list(dict.fromkeys(name for one in known for name in one.setting))
    for some in [*((name,) for name in names), *combinations(names, 2)]:
        good = list(dict.fromkeys(_values(one, some) for one in known if one.holds))
        bad = {_values(one, some) for one in known if not one.holds}
        if not bad & set(good):
            return f"agrees only if {' or '.join(_words(some, values) for values in good)}"
    return ""


def _values(one: Observation, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.setting.get(name, "") for name in names)


def _words(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(names, values, strict=True)
    return " and ".join(f"{name} is {value or 'any'}" for name, value in pairs)


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
