"""The runs that are compared: where they are stored, what tells them apart, and their names."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segxai.errors import SegxaiError, unknown_name
from segxai.store.runs import comparable
from segxai.text import printable

Key = tuple[int, str]  # the number of a place among those that are given, and the run's name there
MODEL = ("plugin", "weights", "window", "output")  # what of a case's provenance is the model


@dataclass(frozen=True)
class ComparedRun:
    """A run, as the provenance of its file describes it.

    Parameters
    ----------
    key : Key
        Where it is: the place's number, and the run's name.
    place : Path
        The file, or the folder with a file for each case.
    case, how : mapping
        The provenance of the case and of the run.
    """

    key: Key
    place: Path
    case: Mapping[str, Any]
    how: Mapping[str, Any]

    @property
    def plugin(self) -> str:
        """The name of the plugin, or of the user's own model."""
        return str(self.case.get("plugin", {}).get("name", "model"))

    @property
    def method(self) -> str:
        """The method in words: with its aggregator, and with its score unless that is the logit."""
        score = self.how.get("score", "logit")
        parts = (self.how["method"], self.how.get("aggregator"), score != "logit" and score)
        return " ".join(str(part) for part in parts if part)

    @property
    def seed(self) -> int:
        """The seed of the noise and of sampled rows."""
        return int(self.how.get("seed", 0))

    @property
    def settings(self) -> dict[str, Any]:
        """What the maps depend on, apart from the model, the image and the seed."""
        return {name: one for name, one in comparable(self.how).items() if name != "seed"}

    @property
    def model(self) -> dict[str, Any]:
        """What the prediction depends on, apart from the image."""
        mirrors = self.case.get("target", {}).get("tta")
        return {"tta": mirrors, **{name: self.case.get(name) for name in MODEL}}

    @property
    def is_deterministic(self) -> bool:
        """Whether no value depends on the seed: no noisy copies, sampled rows or random method."""
        has_sample = self.how.get("rows") is not None
        return not (self.how.get("random") or has_sample or self.how.get("noise_levels"))

    def is_twin_of(self, other: "ComparedRun") -> bool:
        """Return whether the runs differ in the seed, and in nothing else."""
        same = (self.settings, self.model) == (other.settings, other.model)
        return same and self.seed != other.seed


def chosen(runs: Sequence[ComparedRun], names: Iterable[str]) -> list[ComparedRun]:
    """Choose the runs with these names in their files; all of them if there are no names.

    Raises
    ------
    SegxaiError
        If no file has a run of this name, or fewer than two runs are left.
    """
    wanted = tuple(names)
    known = {run.key[1] for run in runs}
    for name in wanted:
        if name not in known:
            raise unknown_name("run", name, known)
    found = [run for run in runs if not wanted or run.key[1] in wanted]
    if len(found) < 2:
        listed = ", ".join(sorted({run.key[1] for run in found})) or "none"
        raise SegxaiError(
            f"a comparison needs two runs, and there is {len(found)} ({listed}); give another "
            "result, or add a run to this one"
        )
    return found


def named(runs: Sequence[ComparedRun]) -> dict[Key, str]:
    """Name every run by its plugin and method, and by what tells it from others of that name.

    That is the seed, then the name of the file or folder, then the run's name in it, then a number.
    """
    names = {run.key: f"{run.plugin} {run.method}" for run in runs}
    details: tuple[Callable[[ComparedRun], str], ...] = (
        lambda run: f"seed {run.seed}",
        lambda run: run.place.stem,
        lambda run: run.key[1],
        lambda run: f"#{run.key[0] + 1}",
    )
    for detail in details:
        names = _told_apart(runs, names, detail)
    return {key: printable(name) for key, name in names.items()}


def _told_apart(
    runs: Sequence[ComparedRun], names: dict[Key, str], detail: Callable[[ComparedRun], str]
) -> dict[Key, str]:
    """Add a detail to names that several runs have, where it is not the same for all of them."""
    count = Counter(names.values())
    kinds = {
        name: {detail(run) for run in runs if names[run.key] == name}
        for name, several in count.items()
        if several > 1
    }
    return {
        run.key: f"{names[run.key]}, {detail(run)}"
        if len(kinds.get(names[run.key], ())) > 1
        else names[run.key]
        for run in runs
    }
