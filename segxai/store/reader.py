"""The runs of a result: their names, their provenance and their maps, read lazily."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from segxai.errors import SegxaiError, unknown_name
from segxai.store.maps import Maps
from segxai.store.refusal import loaded, values_of
from segxai.store.schema import (
    domain_grid_of,
    domain_voxels_of,
    grid_of,
    group,
    provenance_of,
    source_grid_of,
)
from segxai.types import Case


def run_names(tree: xr.DataTree) -> list[str]:
    """List the runs of a result in the order in which they were started."""
    if "attributions" not in tree.children:
        return []
    names = tree["attributions"].children
    return sorted(names, key=lambda name: provenance_of_run(tree, name).get("started", ""))


def provenance_of_run(tree: xr.DataTree, run: str) -> dict[str, Any]:
    """Read the provenance of a run: how its maps were made."""
    return provenance_of(group(tree, f"attributions/{run}"))


def find_run(tree: xr.DataTree, name: str | None) -> str:
    """Find the run with this name, or the last run if no name is given.

    Raises
    ------
    SegxaiError
        If there is no such run.
    """
    names = run_names(tree)
    if not names:
        raise SegxaiError("the result holds no run yet")
    if name is not None and name not in names:
        raise unknown_name("run", name, names)
    return name or names[-1]


def maps(tree: xr.DataTree, run: str | None = None) -> Maps:
    """Return the maps of a run, or of the last run, by increasing label; each is read when used.

    Raises
    ------
    SegxaiError
        If there is no such run.

    Examples
    --------
    >>> with segxai.open_result("r.h5") as tree:  # doctest: +SKIP
    ...     segxai.maps(tree, "smoothgrad-signed_max")[7]["map"].sel(channel="flair")
    """
    return Maps(tree, find_run(tree, run))


def missing_labels(tree: xr.DataTree, run: str) -> list[int]:
    """List the labels that a run was asked for but has no map of; empty if it is complete."""
    asked, done = provenance_of_run(tree, run).get("labels", ()), set(maps(tree, run))
    if 0 in done:  # the whole class: its only map
        return []
    wanted = group(tree, "instances")["label"].values.tolist() if asked == "all" else asked
    return [label for label in wanted if label not in done]


def case_of(tree: xr.DataTree) -> Case:
    """Restore the case of a result: the image as the network saw it, and what is known about it."""
    stored = loaded(group(tree, "input"))
    segmentation, grid = group(tree, "segmentation"), grid_of(tree)
    domains = domain_grid_of(tree)
    is_same = grid.shape == domains.shape and np.allclose(grid.affine, domains.affine)
    return Case(
        name=str(stored.attrs["case"]),
        image=stored["image"].values,
        channels=tuple(str(name) for name in stored["channel"].values),
        grid=grid,
        foreground=stored["foreground"].values != 0,
        input_unit=str(stored["image"].attrs["units"]),
        black=tuple(stored["black"].values.tolist()) if "black" in stored else None,
        reference=values_of(segmentation["reference"]) != 0
        if "reference" in segmentation
        else None,
        source_grid=source_grid_of(tree),
        domains_on_source=not is_same,
        picture=stored["picture"].values if "picture" in stored else None,
    )


def domains_of(tree: xr.DataTree) -> dict[int, Int[np.ndarray, "_ axis"]]:
    """Read the voxels of every instance of a result, by label.

    A map keeps the mask of its own domain; where domains overlap, the labels of the segmentation
    cannot show all of them.
    """
    labels = values_of(group(tree, "segmentation")["labels"])
    found = {
        label: np.argwhere(labels == label)
        for label in group(tree, "instances")["label"].values.tolist()
    }
    for run in run_names(tree):
        for label, stored in maps(tree, run).items():
            if label:  # 0 is a whole class
                found[label] = domain_voxels_of(stored)
    return found
