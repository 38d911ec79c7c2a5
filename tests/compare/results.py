"""Hand-made results: a run is a function from an instance's domain to its map."""

from pathlib import Path

import numpy as np

from segxai.geometry import Grid
from segxai.segment.segmentation import Segmentation
from segxai.store import hdf5
from segxai.store.writer import adding_maps
from segxai.types import Attribution, Case, Instance, Source

SHAPE = (30, 28, 26)
CHANNELS = ("flair", "mprage")
CORNERS = ((6, 6, 6), (20, 8, 15), (9, 19, 18))
PLUGIN = {"name": "net", "package": "p", "version": "1"}


def block(corner, shape=SHAPE, size=2):
    """A cube as a domain."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(start, start + size) for start in corner)] = True
    return mask


DOMAINS = {label: block(corner) for label, corner in enumerate(CORNERS, start=1)}


def case_of(shape=SHAPE, *, affine=None, channels=CHANNELS, seed=0, source="a", name="c"):
    generator = np.random.default_rng(seed)
    sources = (Source(channels[0], "f.nii.gz", source * 64),) if source else ()
    return Case(
        name=name,
        image=generator.normal(size=(len(channels), *shape)).astype(np.float32),
        channels=channels,
        grid=Grid(shape, np.eye(len(shape) + 1) if affine is None else affine),
        foreground=np.ones(shape, dtype=bool),
        sources=sources,
    )


def how(**more):
    """The provenance of a run."""
    return {"method": "gradient", "aggregator": "mean", "score": "logit", "started": "1"} | more


def write(
    path, runs, *, case=None, domains=DOMAINS, plugin="net", unit="score per input", outcomes=()
):
    """The path of a result.

    A run is its provenance and a function of (label, mask) to a map, or to a map and its error.
    """
    case = case or case_of()
    known = dict(outcomes)
    instances = [
        Instance.from_mask(mask, label=label, outcome=known.get(label, ""))
        for label, mask in domains.items()
    ]
    logits = np.zeros((2, *case.grid.shape), dtype=np.float32)
    provenance = {
        "plugin": {**PLUGIN, "name": plugin},
        "case": {
            "name": case.name,
            "channels": list(case.channels),
            "sources": [vars(one) for one in case.sources],
        },
    }
    path = Path(path)
    path.parent.mkdir(exist_ok=True)
    prediction = Segmentation.of(logits, ("rest", "lesion"))
    hdf5.create(path, case, prediction, [one for one in instances if one.label], provenance)
    for name, (settings, compute) in runs.items():
        hdf5.start_run(path, name, settings)
        with adding_maps(path, case) as writer:
            for instance in instances:
                found = compute(instance.label, instance.mask(case.grid.shape))
                values, error = found if isinstance(found, tuple) else (found, None)
                offset = (0,) * len(case.grid.shape)
                facts = {"estimate": False}
                attribution = Attribution(instance.label, values, offset, error, facts, unit)
                writer.add(name, attribution, instance)
    return path


def noise(seed, channels=2):
    """Maps of independent normal values."""

    def compute(label, mask):
        shape = (channels, *mask.shape) if channels else mask.shape
        values = np.random.default_rng([seed, label]).normal(size=shape).astype(np.float32)
        return values if channels else abs(values)

    return compute
