"""The options of a model without a plugin, and the adapter made from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from segxai.cli.flags import flag_of
from segxai.errors import SegxaiError, unknown_name

if TYPE_CHECKING:
    from segxai.models.own_model import OwnModel
    from segxai.types import Activation

PANEL = "A model of your own, without a plugin"
ACTIVATIONS = ("softmax", "sigmoid")

Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FACTORY|FILE",
        help="Factory that makes the network, such as lesions.networks:unet; or a TorchScript or "
        "torch.export program.",
        rich_help_panel=PANEL,
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A MONAI bundle.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow a program or a bundle to be loaded, which can run any code.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Names of the input channels, in the model's order.",
        rich_help_panel=PANEL,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Names of the logits, in the model's order; default: counted in a trial run.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        help="Size of the sliding window; default: the whole image at once.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Overlap of neighbouring windows, as a share of their size; default: 0.25.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Sigmoid = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="NAME",
        help="softmax, or sigmoid for independent (multi-label) classes; default: softmax.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="none, z-score, unit, imagenet, mean:M,...;std:S,... or range:LOW,HIGH; default: "
        "none (values as in the files).",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Spacing = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Bring volumes to RAS orientation and this voxel size; default: as in the file.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|N",
        help="Which of the tensors that the network returns has the logits, by its name or its "
        "number from 0; default: the one that is named logits or out, or the only one that fits.",
        rich_help_panel=PANEL,
        hidden=True,
        show_default=False,
    ),
]
AlignCorners = Annotated[
    bool,
    typer.Option(
        "--align-corners",
        help="Interpolate coarse logits with aligned corners, as align_corners=True does.",
        rich_help_panel=PANEL,
        hidden=True,
    ),
]


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
        channels=names(words.channels),
        classes=names(words.classes),
        window=sizes(words.window),
        overlap=words.overlap,
        activation=cast("Activation | None", words.activation),
        normalise=words.normalise,
        spacing_mm=words.spacing,
        output=words.output,
        align_corners=words.align_corners or None,
    )


def names(text: str | None) -> tuple[str, ...]:
    """Split `a,b,c` into its names."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Parse the sizes in `96,96,96`; return None if none are given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SegxaiError(f"--window {text}: give a size for each axis, such as 96,96,96")
    return tuple(int(part) for part in parts)
