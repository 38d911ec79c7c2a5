"""The cover of a result: what it says about itself, read without opening its maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from segxai.store.hdf5 import check_file
from segxai.store.records import parsed_case
from segxai.store.refusal import parsing


@dataclass(frozen=True)
class Cover:
    """What a result says about itself.

    Parameters
    ----------
    provenance : mapping
        Of the case.
    case : str
        The name of the case.
    axes, instances : int
        The number of spatial axes, and of instances, explained or not.
    """

    provenance: Mapping[str, Any]
    case: str
    axes: int
    instances: int


def read_cover(path: Path) -> Cover:
    """Read the cover of a result, some ten times faster than `open_result` opens it.

    Raises
    ------
    SegxaiError
        As `open_result`; but damage in the maps is not looked for.
    """
    check_file(path)
    with parsing(path), h5py.File(path, "r") as file:
        return Cover(
            provenance=parsed_case(file.attrs["provenance"]),
            case=str(file["input"].attrs["case"]),
            axes=file["segmentation/labels"].ndim,
            instances=len(file["instances/label"]),
        )
