"""The adapter: what segxai must know about the model."""

from functools import partial
from pathlib import Path

from segxai import Adapter, InstanceCriteria, SlidingWindow, hookimpl

from .cases import READER, embedded_case
from .network import CHANNELS, CLASSES, load_network


@hookimpl
def segxai_adapter(checkpoint: Path | None, weights_key: str | None) -> Adapter:
    """Describe the model; its functions load weights and images when they are called."""
    return Adapter(
        channels=CHANNELS,
        classes=CLASSES,
        load_network=partial(load_network, checkpoint, weights_key),
        load_case=READER.read,
        criteria=InstanceCriteria(
            class_index=CLASSES.index("blob"),  # REPLACE: the class that is explained
            threshold=0.5,  # REPLACE: voxels count if their probability is above this
            min_volume_mm3=10,  # REPLACE: smaller components are not instances
        ),
        predict=SlidingWindow((24, 24, 24), overlap=0.25),  # REPLACE: as in your own inference
        weights=checkpoint,  # REPLACE: `checkpoint or` your file; its sha256 is kept
        layer="active",  # REPLACE: a layer for Grad-CAM++, as in `network.named_modules()`
        embedded_case=embedded_case,
        embedded_options={"samples": 4},  # few noisy copies, so that the first run is quick
        summary="bright blobs in made-up volumes",  # REPLACE: one line for `segxai check`
    )
