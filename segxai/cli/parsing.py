"""Parsing of the arguments of `segxai run`: copies, instances, one file for each channel."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segxai.errors import SegxaiError, option, unknown_name

if TYPE_CHECKING:
    from segxai.run.options import Source

PREFIX = "sphere:"


def copies(samples: str) -> int | Literal["auto"]:
    """Parse the number of noisy copies: an integer or `auto`."""
    if samples == "auto":
        return "auto"
    try:
        return int(samples)
    except ValueError:
        raise SegxaiError(f"{option('samples', samples)}: give an integer, or auto") from None


def labels_of(text: str | None) -> tuple[int, ...] | None:
    """Parse labels such as `1,2,5`; None, for all of them, if they are not given."""
    if text is None or text == "all":
        return None
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise SegxaiError(f"{option('labels', text)}: give labels such as 1,2,5")
    return tuple(sorted({int(part) for part in text.split(",")}))


def label_or_all(text: str | None) -> int | Literal["all"] | None:
    """Parse the label of a reference: a number above 0, or `all`."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) == 0:
        raise SegxaiError(f"{option('reference_label', text)}: give a label such as 2, or all")
    return int(text)


def source_of(text: str | None, *, split: bool) -> "Source | None":
    """Parse where the instances come from: a mask, balls or another result; None by default."""
    from segxai.run.options import Balls, Mask, Result

    if split and (text is None or _is_result(text) or text.startswith(PREFIX)):
        raise SegxaiError(
            f"{option('split', True)} cuts a mask into its components: give one with "
            f"{option('instances', 'MASK')}"
        )
    if text is None:
        return None
    if text.startswith(PREFIX):
        return Balls(parse_spheres(text))
    if not Path(text).is_file():
        raise SegxaiError(
            f"{option('instances', text)}: neither labels such as 1,2,5, nor a file, nor "
            "sphere:X,Y,Z,R"
        )
    return Result(Path(text)) if _is_result(text) else Mask(Path(text), split)


def are_labels(text: str | None) -> bool:
    """Return whether `--instances` names labels of the prediction: `all` or `1,2,5`."""
    return text == "all" or (
        text is not None and all(part.strip().isdecimal() for part in text.split(","))
    )


def _is_result(text: str) -> bool:
    return text.endswith((".h5", ".hdf5"))


def names_of(text: str | None) -> tuple[str, ...]:
    """Parse names such as `mean,signed_max`."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def numbers_of(name: str, text: str | None) -> tuple[float, ...]:
    """Parse numbers such as `0,1,2`."""
    try:
        return tuple(map(float, names_of(text)))
    except ValueError:
        raise SegxaiError(f"{option(name, text)}: give numbers, such as 0,1,2") from None


def range_of(name: str, text: str | None) -> tuple[float, float] | None:
    """Parse a smallest and a largest number, such as `90,120`; `all` leaves out none."""
    if text == "all":
        return (0.0, float("inf"))
    ends = numbers_of(name, text)
    if not ends:
        return None
    if len(ends) != 2 or ends[0] > ends[1]:
        raise SegxaiError(
            f"{option(name, text)}: give the smallest and the largest, such as 90,120"
        )
    return ends


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """Parse a method's own options from `name=value`, each given once."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or name in found:
            raise SegxaiError(
                f"{option('method_options', pair)}: give name=value, each name once; "
                "`segxai methods NAME` lists them"
            )
        found[name] = value
    return found


def files_by_channel(images: Sequence[str], channels: tuple[str, ...]) -> dict[str, Path]:
    """Assign one file to each channel, by order or by name; a 4D file may hold all of them."""
    named = [_channel_and_file(image, channels) for image in images]
    given = [channel for channel, _ in named if channel]
    twice = next((channel for channel in given if given.count(channel) > 1), None)
    if twice:
        raise SegxaiError(
            f"channel {twice!r} is given twice; give each of {_listed(channels)} once"
        )
    if len(images) == len(channels) and len(given) in (0, len(channels)):
        pairs = zip(channels, named, strict=True)
        files = {given_name or channel: file for channel, (given_name, file) in pairs}
        return {channel: files[channel] for channel in channels}
    held = _volumes_in(images, given)
    if held == len(channels):
        return dict.fromkeys(channels, Path(images[0]))
    what = f" ({images[0]} holds {held} volumes)" if held > 1 else ""
    raise SegxaiError(
        f"{_count(images, 'image')}{what} for {_count(channels, 'channel')}; give one file for "
        f"each of {_listed(channels)}, in this order, or all by name as CHANNEL=FILE"
    )


def _volumes_in(images: Sequence[str], named: Sequence[str]) -> int:
    """Count the volumes in the only file that is given, without a channel's name; else 0."""
    from segxai.load.volumes import volumes_in

    return volumes_in(Path(images[0])) if len(images) == 1 and not named else 0


def _channel_and_file(image: str, channels: tuple[str, ...]) -> tuple[str, Path]:
    """Split an argument into its channel ("" if it names none) and its file."""
    channel, equals, file = image.partition("=")
    if not equals or (channel not in channels and Path(image).exists()):
        return "", Path(image)
    if channel not in channels:
        raise unknown_name("channel", channel, channels)
    return channel, Path(file)


def _count(things: Sequence[str], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _listed(channels: tuple[str, ...]) -> str:
    return ", ".join(channels)


def parse_spheres(text: str) -> tuple[tuple[float, ...], ...]:
    """Parse balls in mm from `sphere:X,Y,Z,R`, or several from `sphere:X,Y,Z,R:X,Y,Z,R`.

    Raises
    ------
    SegxaiError
        If the text is anything else.
    """
    try:
        spheres = tuple(
            tuple(float(number) for number in one.split(","))
            for one in text.removeprefix(PREFIX).split(":")
        )
    except ValueError:
        spheres = ()
    if not text.startswith(PREFIX) or not spheres or min(map(len, spheres)) < 2:
        raise SegxaiError(
            f"{option('instances', text)}: give a centre and a radius in mm, sphere:X,Y,Z,R; "
            "for several, sphere:X,Y,Z,R:X,Y,Z,R"
        )
    return spheres
