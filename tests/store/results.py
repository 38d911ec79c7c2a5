"""A made-up case and its result, as the tests of the store write them."""

import numpy as np

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.writer import adding_maps
from segxai.types import Attribution, Case, Instance

SHAPE = (6, 5, 4)


def case():
    generator = np.random.default_rng(1)
    return Case(
        name="c",
        image=generator.normal(size=(2, *SHAPE)).astype(np.float32),
        channels=("flair", "mprage"),
        black=(0.0, -2.5),
        grid=Grid(SHAPE, np.diag([1, 2, 3, 1]) + 0.5 * np.eye(4, k=3)),
        foreground=np.ones(SHAPE, dtype=bool),
    )


def instance(label=1, start=1):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[start : start + 2, 1:3, 1:2] = True
    return Instance.from_mask(mask, label=label, outcome="TP")


def attribution(label=1, *, channels=True, seed=0):
    shape = (2, 4, 3, 2) if channels else (4, 3, 2)
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    facts = {"rows": 4, "estimate": False, "domain_voxels": 4}
    return Attribution(label, values, (1, 1, 1), np.abs(values), facts)


def create(path, instances=2):
    found = [instance(label, label) for label in range(1, instances + 1)]
    logits = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype(np.float32)
    hdf5.create(path, case(), Segmentation.of(logits, ("rest", "lesion")), found, {"a": 1})


def add(path, attribution, instance, case):
    """Add a map to the run "run" as a task does."""
    with adding_maps(path, case) as writer:
        writer.add("run", attribution, instance)


MAP = "attributions/run/map"
RUN = {"method": "m", "aggregator": None, "score": "logit", "labels": "all"}
