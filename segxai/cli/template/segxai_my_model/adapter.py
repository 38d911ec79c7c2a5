"""The adapter: what segxai must know about the model."""

from segxai import Adapter, hookimpl

from .cases import embedded_case, load_case, load_mask
from .network import CHANNELS, CLASSES, load_network


@hookimpl
def segxai_adapter() -> Adapter:
    """Describe the model; its functions load weights and images when they are called."""
    return Adapter(
        name="my_model",
        summary="bright blobs in made-up volumes",  # REPLACE: one line for `segxai check`
        channels=CHANNELS,
        classes=CLASSES,
        target_class="blob",  # REPLACE: the class that is explained
        load_network=load_network,
        load_case=load_case,
        load_labels=load_mask,
        embedded_case=embedded_case,
        weights=lambda checkpoint: checkpoint,  # REPLACE: for None, your file; its sha256 is kept
        threshold=0.5,  # REPLACE: voxels count if their probability is above this
        min_volume_mm3=10,  # REPLACE: smaller components are not instances
        window=(24, 24, 24),  # REPLACE: the window of your sliding-window inference, or None
        overlap=0.25,  # REPLACE: its overlap; windows are blended with Gaussian weights
        layer="active",  # REPLACE: a layer for Grad-CAM++, as in `network.named_modules()`
        embedded_options={"samples": 4},  # few noisy copies, so that the first run is quick
    )
