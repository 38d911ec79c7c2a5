"""A scan of a result: what of its prediction, reference and regions belongs to a domain."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int, Shaped

from segxai.geometry import Grid
from segxai.instances import components, smallest_voxels
from segxai.matching import ANY, Voxels, overlaps
from segxai.store.refusal import loaded, values_of
from segxai.store.schema import domain_grid_of, group, provenance_of
from segxai.types import InstanceCriteria

MISSED, TOO_SMALL, NOT_MATCHED = "missed", "too small", "not matched"
SPHERE, MATCHED = "sphere", "matched"


@dataclass(frozen=True)
class Scan:
    """What a result knows of a scan, whatever was explained in it.

    Parameters
    ----------
    grid : Grid
        The grid of domains.
    criteria : InstanceCriteria
        Minimum volume, connectivity and rule of matching of the result.
    segmentation, instances : Dataset
        These groups of the result.
    """

    grid: Grid
    criteria: InstanceCriteria
    class_name: str
    origin: str
    segmentation: xr.Dataset
    instances: xr.Dataset

    @classmethod
    def of(cls, tree: xr.DataTree) -> "Scan":
        """Read a scan from an open result."""
        target = provenance_of(group(tree, "/")).get("target", {})
        criteria = InstanceCriteria(
            min_volume_mm3=target.get("min_volume_mm3", 0.0),
            connectivity=target.get("connectivity", 2),
            match=target.get("match", ANY),
        )
        return cls(
            grid=domain_grid_of(tree),
            criteria=criteria,
            class_name=target.get("class") or "",
            origin=target.get("instances", {}).get("origin", "predicted"),
            segmentation=group(tree, "segmentation"),
            instances=loaded(group(tree, "instances")),
        )

    @cached_property
    def reference(self) -> Bool[np.ndarray, "*grid"] | None:
        """Where an expert drew the class; None without a reference."""
        return self._mask("reference")

    @cached_property
    def predicted(self) -> Bool[np.ndarray, "*grid"] | None:
        """Where the class is predicted, small components included; None if that is not known."""
        return self._mask("predicted")

    @cached_property
    def drawn(self) -> list[Voxels]:
        """The components of the reference, by decreasing volume, with those that are too small."""
        return self._components(self.reference)

    @cached_property
    def found(self) -> list[Voxels]:
        """The components of the prediction, by decreasing volume, with those that are too small."""
        return self._components(self.predicted)

    def is_large(self, voxels: Voxels) -> bool:
        """Return whether a component has the minimum volume."""
        return len(voxels) >= smallest_voxels(self.criteria, self.grid)

    @cached_property
    def load(self) -> tuple[str, float]:
        """The volume of all lesions that are large enough: drawn ones, or else predicted ones.

        Returns "reference" or "prediction", and mm3 (pixels in pictures); "" and NaN without both.
        """
        for origin, mask, parts in (
            ("reference", self.reference, self.drawn),
            ("prediction", self.predicted, self.found),
        ):
            if mask is not None:
                voxels = sum(len(one) for one in parts if self.is_large(one))
                return origin, voxels * self.grid.voxel_volume_mm3
        if self.origin != "predicted" or not self.instances.sizes["label"]:
            return "", float("nan")
        outcomes = self.instances["outcome"].values.astype(str)  # of an older file
        voxels = self.instances["voxels"].values[~np.isin(outcomes, ("FN", "TN"))].sum()
        return "prediction", float(voxels) * self.grid.voxel_volume_mm3

    def columns(self, label: int, voxels: Voxels) -> dict[str, Any]:
        """Return the columns of a domain that no map is needed for."""
        known = self._known(label)
        outcome = str(known.get("outcome", ""))
        class_name = str(known.get("class", self.class_name))
        origin, load = self.load
        is_volume = len(self.grid.shape) == 3
        size, loads = ("volume_mm3", "mm3") if is_volume else ("area_px", "px")
        return {
            "class": class_name,
            "outcome": outcome,
            "kind": self._kind(outcome, int(known.get("source", 0)), voxels),
            "source": float(known.get("source", 0)) or float("nan"),
            **self._matched(outcome, voxels),
            "region": self.region_of(voxels),
            "voxels": len(voxels),
            size: len(voxels) * self.grid.voxel_volume_mm3,
            "load_from": origin,
            f"lesion_load_{loads}": load,
            **self._probabilities(class_name, voxels, known),
            "structural_uncertainty": float(known.get("structural_uncertainty", "nan")),
            **self._centroid(voxels),
        }

    def _known(self, label: int) -> dict[str, Any]:
        if label not in self.instances["label"].values:
            return {}
        row = self.instances.sel(label=label)
        return {str(name): one.values for name, one in row.data_vars.items() if not one.dims}

    def _kind(self, outcome: str, source: int, voxels: Voxels) -> str:
        """Tell how a lesion was missed, or what a control is."""
        if outcome == "TN":
            return MATCHED if source else SPHERE
        if outcome != "FN" or self.predicted is None:
            return ""
        if not self.predicted[tuple(voxels.T)].any():
            return MISSED
        large = [one for one in self.found if self.is_large(one)]
        return NOT_MATCHED if overlaps([voxels], large).any() else TOO_SMALL

    def _matched(self, outcome: str, voxels: Voxels) -> dict[str, Any]:
        """Find the components of the reference that a domain overlaps, and the largest IoU."""
        if self.reference is None:
            return {}
        found = overlaps([voxels], self.drawn)[0]
        labels = np.flatnonzero(found) + 1
        return {
            "match": self.criteria.match if outcome in ("TP", "FP", "FN") else "",
            "reference_labels": " ".join(map(str, labels.tolist())),
            "reference_iou": float(found.max()) if len(labels) else float("nan"),
        }

    def region_of(self, voxels: Voxels) -> str:
        """Name the region that has most of the voxels, the smallest label on a tie; "" for none."""
        if "regions" not in self.segmentation:
            return ""
        inside = self._regions[tuple(voxels.T)]
        labels, counts = np.unique(inside[inside > 0], return_counts=True)
        if not len(labels):
            return ""
        label = str(int(labels[np.argmax(counts)]))
        names = json.loads(self.segmentation["regions"].attrs.get("names", "{}"))
        return str(names.get(label, label))

    @cached_property
    def _regions(self) -> Int[np.ndarray, "*grid"]:
        return values_of(self.segmentation["regions"])

    def _probabilities(
        self, class_name: str, voxels: Voxels, known: dict[str, Any]
    ) -> dict[str, float]:
        """Summarise probability and entropy in a domain; the mean is of full precision."""
        columns = {}
        names = [str(one) for one in self.segmentation["class"].values]
        if class_name in names:
            inside = self._probability[names.index(class_name)][tuple(voxels.T)].astype(float)
            columns["mean_probability"] = float(known.get("mean_probability", inside.mean()))
            columns["max_probability"] = float(inside.max())
        if "entropy" in self.segmentation:
            columns["mean_entropy"] = float(self._entropy[tuple(voxels.T)].astype(float).mean())
        return columns

    @cached_property
    def _probability(self) -> Float[np.ndarray, "class *grid"]:
        return values_of(self.segmentation["probability"])

    @cached_property
    def _entropy(self) -> Float[np.ndarray, "*grid"]:
        return values_of(self.segmentation["entropy"])

    def _centroid(self, voxels: Voxels) -> dict[str, float]:
        centre = self.grid.to_mm(voxels.mean(axis=0))
        pairs = zip(self.grid.axes, centre.tolist(), strict=True)
        return {f"centroid_{axis}_{self.grid.length_unit}": value for axis, value in pairs}

    def _mask(self, name: str) -> Bool[np.ndarray, "*grid"] | None:
        stored: Shaped[np.ndarray, "*grid"] | None = (
            values_of(self.segmentation[name]) if name in self.segmentation else None
        )
        return None if stored is None else stored != 0

    def _components(self, mask: Bool[np.ndarray, "*grid"] | None) -> list[Voxels]:
        every = InstanceCriteria(connectivity=self.criteria.connectivity)
        return [] if mask is None else components(mask, self.grid, every)
