"""A model without a plugin, as the command line describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from segxai.cli.flags import flag_of
from segxai.cli.parsing import names_of
from segxai.errors import SegxaiError, unknown_name

if TYPE_CHECKING:
    from segxai.models.own_model import OwnModel
    from segxai.types import Activation

ACTIVATIONS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Words:
    """What the command line says about the model: a plugin's name, or your own model's options."""

    plugin: str | None
    model: str | None = None
    bundle: Path | None = None
    trust: bool = False
    channels: str | None = None
    classes: str | None = None
    window: str | None = None
    overlap: float | None = None
    activation: str | None = None
    normalise: str | None = None
    spacing: float | None = None
    output: str | None = None
    align_corners: bool = False

    def check(self) -> None:
        """Raise SegxaiError unless the options name exactly one model and fit it."""
        doors = {"--plugin": self.plugin, "--model": self.model, "--bundle": self.bundle}
        given = [name for name, value in doors.items() if value is not None]
        if not given:
            raise SegxaiError(
                "no model: give --plugin NAME (see `segxai plugins`), or one of your own with "
                "--model or --bundle"
            )
        if len(given) > 1:
            raise SegxaiError(f"{' and '.join(given)} exclude each other: give one of them")
        rest = (name for name, value in vars(self).items() if name not in _DOORS and value)
        said = next(rest, None)
        if self.plugin is not None and said is not None:
            raise SegxaiError(
                f"{flag_of(said)} is for a model of your own, --model or --bundle: the plugin "
                f"{self.plugin!r} brings its own"
            )
        if self.activation not in (None, *ACTIVATIONS):
            raise unknown_name("activation", str(self.activation), ACTIVATIONS)
        if self.spacing is not None and not 0 < self.spacing < float("inf"):
            raise SegxaiError(f"--spacing {self.spacing:g}: give millimetres above 0, such as 1")
        sizes(self.window)


_DOORS = ("plugin", "model", "bundle")


def own_model(words: Words) -> "OwnModel":
    """Return the model that the options describe."""
    from segxai.models.own_model import OwnModel

    return OwnModel(
        model=words.model or "",
        bundle=words.bundle,
        trust=words.trust,
        channels=names_of(words.channels),
        classes=names_of(words.classes),
        window=sizes(words.window),
        overlap=words.overlap,
        activation=cast("Activation | None", words.activation),
        normalise=words.normalise,
        spacing_mm=words.spacing,
        output=words.output,
        align_corners=words.align_corners or None,
    )


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Parse the sizes in `96,96,96`; return None if none are given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SegxaiError(f"--window {text}: give a size for each axis, such as 96,96,96")
    return tuple(int(part) for part in parts)
