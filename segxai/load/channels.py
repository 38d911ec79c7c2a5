"""Channels: the volumes of one case, from a file each or from one 4D file, on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segxai.errors import SegxaiError, warn
from segxai.geometry import Grid
from segxai.load.resampling import mismatch
from segxai.load.volumes import Volume, load_stack, volumes_in


def load_volumes(
    files: Mapping[str, Path], channels: Sequence[str], *, flat: bool = False
) -> list[Volume]:
    """Load the volume of each channel, all on the grid of the first.

    Parameters
    ----------
    files : mapping
        The file of each channel; the same one for all if it is 4D: its volumes are taken in the
        order of the channels.
    channels : sequence of str
        Names of the channels, in order.
    flat : bool
        Whether they are 2D images, (x, y) or (x, y, 1), instead of volumes.

    Raises
    ------
    SegxaiError
        If a file cannot be used, their grids differ (see `check_same_grid`), or a 4D file has
        another number of volumes.

    Warns
    -----
    SegxaiWarning
        About the order that is taken, and about affines that differ by rounding.
    """
    paths = [files[channel] for channel in channels]
    if len(paths) > 1 and len(set(paths)) == 1 and volumes_in(paths[0]) > 1:
        warn(f"the volumes in {paths[0].name} are taken as {', '.join(channels)}, in this order")
        return load_stack(paths[0], channels, flat=flat)
    pairs = zip(paths, channels, strict=True)
    volumes = [one for path, channel in pairs for one in load_stack(path, [channel], flat=flat)]
    check_same_grid(*volumes)
    return [replace(one, grid=volumes[0].grid) for one in volumes]


def check_same_grid(*located: Volume | tuple[str, Grid]) -> None:
    """Check that all lie on one grid: equal shapes, corners within 0.1 voxel of the first's.

    Parameters
    ----------
    *located : Volume or (role, Grid)
        The volumes or grids that must match.

    Raises
    ------
    SegxaiError
        If one does not match the first; the message names it.

    Warns
    -----
    SegxaiWarning
        If one is off by more than 0.001 mm: that is rounding in its header.
    """
    named = [(str(x), x.grid) if isinstance(x, Volume) else x for x in located]
    for name, grid in named[1:]:
        problem = mismatch(*named[0], name, grid)
        if problem:
            raise SegxaiError(
                f"{problem}: files of one case must share a grid; register and resample one onto "
                "the other (elastix, ANTs, FSL flirt) and give the result"
            )


def check_varies(volume: Volume) -> None:
    """Check that the volume has at least two different values.

    Raises
    ------
    SegxaiError
        If every voxel has the same value: the channel has no image in it.
    """
    first = volume.data.flat[0]
    if bool((volume.data == first).all()):
        raise SegxaiError(
            f"{volume} has the same value {first:g} in every voxel, so there is no image in it; "
            "give the right file"
        )
