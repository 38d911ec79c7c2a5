"""From files to the network's input: reading, voxel size, normalisation."""

import numpy as np

from segxai import Case, Grid, Reader, find_normalisation

from .network import CHANNELS

# REPLACE with what training did: how values are normalised, and the voxel size.
READER = Reader(CHANNELS, find_normalisation("z-score", len(CHANNELS)), spacing_mm=1.5)


def embedded_case() -> Case:
    """Make four blobs in noise, for runs without an image. REPLACE with a small real case."""
    shape = (40, 36, 32)
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    centres = {(10, 10, 10): 3.2, (28, 12, 9): 2.6, (12, 25, 21): 2.3, (29, 25, 20): 2.0}
    blobs = [np.linalg.norm(voxels - np.array(one), axis=-1) <= r for one, r in centres.items()]
    drawn = np.any(blobs, axis=0)
    raw = np.random.default_rng(0).normal(100, 10, (len(CHANNELS), *shape)).astype(np.float32)
    raw[0][drawn] -= 30
    raw[1][drawn] += 60
    return Case(
        name="embedded",
        image=READER.normalisation.apply(raw),
        channels=CHANNELS,
        grid=Grid(shape, np.diag([1.5, 1.5, 1.5, 1])),
        foreground=np.ones(shape, dtype=bool),
        input_unit=READER.normalisation.unit,
        black=READER.normalisation.black,
        reference=drawn,
    )
