"""What a command asks for: the words of its options, sorted by what they are about."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segxai.cli.own_model import Words, own_model
from segxai.cli.parsing import (
    are_labels,
    copies,
    label_or_all,
    labels_of,
    names_of,
    settings_of,
    source_of,
)

if TYPE_CHECKING:
    from segxai.models.model import Model

# Options of the record whose words stand for themselves, by the names of the command's parameters.
PLAIN = (
    "method", "tolerance", "antithetic", "noise", "noise_unit", "seed", "layer", "layer_layout",
    "contrast", "class_name", "class_index", "threshold", "connectivity", "match", "rows", "tta",
    "device", "engine", "row_tolerance", "batch", "precision",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """The files to read: images, the expert's mask and weights; which of these to take."""

    images: tuple[str, ...]
    reference: Path | None
    regions: Path | None
    checkpoint: Path | None
    weights_key: str | None
    folds: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Part:
    """Whether instances were chosen, and whether all of the embedded case is wanted."""

    is_chosen: bool
    is_whole: bool


@dataclass(frozen=True)
class Output:
    """Where results go, and what may happen to a file that is already there."""

    out: Path | None
    overwrite: bool
    append: bool
    dry_run: bool


@dataclass(frozen=True)
class Request:
    """Everything that the parameters of a command say.

    Parameters
    ----------
    words : Words
        About the model.
    asked : mapping
        The leaves of the options that were given; see `segxai.run.options.Options.of`.
    part, files, output
        As above.
    case : str, optional
        The name of the case.
    max_voxels : int, optional
        The largest image to read.
    """

    words: Words
    asked: Mapping[str, Any]
    part: Part
    files: Files
    output: Output
    case: str | None
    max_voxels: int | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Request":
        """Sort the parameters of a command, by their names in `segxai.cli.run.run`."""
        instances, labels = given["instances"], given["labels"]
        if are_labels(instances) and labels is None:
            instances, labels = None, instances
        words = {one.name: given[one.name] for one in fields(Words)}
        weights = given["checkpoint"], given["weights_key"], tuple(given["folds"] or ())
        images, reference = tuple(given.get("images") or ()), given.get("reference")
        output = (given["overwrite"], given["append"], given.get("dry_run", False))
        return cls(
            words=Words(**words),
            asked=_asked(given, instances, labels),
            part=Part(instances is not None or labels is not None, given.get("full", True)),
            files=Files(images, reference, given.get("regions"), *weights),
            output=Output(given["out"], *output),
            case=given.get("case_name"),
            max_voxels=given["max_voxels"],
        )

    @property
    def model(self) -> "Model":
        """The model that the words name."""
        from segxai.models.model import Model

        own, files = own_model(self.words), self.files
        return Model(self.words.plugin, own, files.checkpoint, files.weights_key, files.folds)


def _asked(given: Mapping[str, Any], instances: str | None, labels: str | None) -> dict[str, Any]:
    """Parse the leaves of the options that were given."""
    samples = given["samples"]
    parsed = {
        **{name: given[name] for name in PLAIN},
        "method_options": settings_of(given["method_options"] or ()),
        "aggregator": names_of(given["aggregator"]),
        "score": names_of(given["score"]),
        "controls": names_of(given["controls"]),
        "samples": None if samples is None else copies(samples),
        "min_volume_mm3": given["min_volume"],
        "instances": source_of(instances, split=given["split"]),
        "labels": labels_of(labels),
        "reference_label": label_or_all(given["reference_label"]),
        "crop_mm": given["crop"],
    }
    return {
        name: value
        for name, value in parsed.items()
        if not (value is None or value is False or value in ((), {}))
    }
