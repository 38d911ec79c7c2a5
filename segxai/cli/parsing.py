"""Parsing of the arguments of `segxai run`: copies, instances, one file for each channel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from segxai.errors import SegxaiError, unknown_name


def copies(samples: str) -> int | Literal["auto"]:
    """Parse the number of noisy copies: an integer or `auto`."""
    if samples == "auto":
        return "auto"
    try:
        return int(samples)
    except ValueError:
        raise SegxaiError(f"--samples {samples}: give an integer, or auto") from None


def balls_of(instances: str | None) -> tuple[tuple[float, ...], ...]:
    """Return the balls that `--instances` names; none if it names something else."""
    if instances is None or not instances.startswith("sphere:"):
        return ()
    return parse_spheres(instances)


def selection(instances: str | None, *, split: bool) -> tuple[tuple[int, ...] | None, Path | None]:
    """Parse `all`, `1,2,5` or a path into labels and a mask, each None if not given."""
    instances = instances or "all"
    parts = instances.split(",")
    if instances != "all" and not all(part.strip().isdecimal() for part in parts):
        if not Path(instances).is_file():
            raise SegxaiError(
                f"--instances {instances}: neither 'all', nor labels such as 1,2,5, nor a file, "
                "nor sphere:X,Y,Z,R"
            )
        return None, Path(instances)
    if split:
        raise SegxaiError("--split cuts a mask into its components: give one with --instances MASK")
    return None if instances == "all" else tuple(sorted({int(part) for part in parts})), None


def files_by_channel(images: Sequence[str], channels: tuple[str, ...]) -> dict[str, Path]:
    """Assign one file to each channel, by order or by name."""
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
    raise SegxaiError(
        f"{_count(images, 'image')} for {_count(channels, 'channel')}; give one file for each of "
        f"{_listed(channels)}, in this order, or all by name as CHANNEL=FILE"
    )


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


PREFIX = "sphere:"


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
            f"--instances {text}: give a centre and a radius in mm, sphere:X,Y,Z,R; for several, "
            "sphere:X,Y,Z,R:X,Y,Z,R"
        )
    return spheres
