"""segxai: which input voxels made a segmentation model draw this instance, and by how much.

Everything public is here; each name is imported when it is first used, so that reading results
loads no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Adapter": "segxai.adapter",
    "Aggregator": "segxai.protocols",
    "Attribution": "segxai.types",
    "Case": "segxai.types",
    "Detections": "segxai.instances",
    "Grid": "segxai.geometry",
    "GuidedBackprop": "segxai.methods.guided_backprop",
    "Instance": "segxai.types",
    "InstanceGradCamPlusPlus": "segxai.methods.gradcam",
    "InstanceGradient": "segxai.methods.gradient",
    "InstanceScore": "segxai.scores",
    "Layout": "segxai.layouts",
    "Method": "segxai.method",
    "Predictor": "segxai.predictor",
    "Readout": "segxai.readout",
    "RowBatch": "segxai.protocols",
    "SeededNoiseTunnel": "segxai.methods.tunnel",
    "SegxaiError": "segxai.errors",
    "Settings": "segxai.method",
    "Source": "segxai.types",
    "explain": "segxai.explaining",
    "hookimpl": "segxai.hookspecs",
    "open_result": "segxai.storage",
    "sliding_window": "segxai.layouts",
    "whole_image": "segxai.layouts",
    "wrap": "segxai.wrapping",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'segxai' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
