"""The adapter: the case of `ms_lesion`, explained for a Swin UNETR."""

from dataclasses import replace
from pathlib import Path

from segxai_ms_lesion import adapter as ms_lesion

from segxai import Adapter, hookimpl
from segxai_swin_unetr.network import OVERLAP, WINDOW, load_swin_unetr, weights_file

THRESHOLD = 0.98
PAPERS_WINDOW = (96, 96, 96)


@hookimpl
def segxai_adapter() -> Adapter:
    """Build the adapter of the Swin UNETR for MS lesions, which takes the 3D U-Net's input."""
    return replace(
        ms_lesion.segxai_adapter(),
        name="swin_unetr",
        load_network=load_swin_unetr,
        for_checkpoint=_for_checkpoint,
        weights=lambda checkpoint: checkpoint or weights_file(),
        threshold=THRESHOLD,
        window=WINDOW,
        overlap=OVERLAP,
        layer="decoder2",
        embedded_options={"labels": (4,), "rows": 4, "samples": 2},
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, Swin UNETR",
    )


def _for_checkpoint(path: Path) -> Adapter:
    """Build the adapter of a checkpoint, which is taken to be trained on the paper's windows."""
    return replace(segxai_adapter(), window=PAPERS_WINDOW, threshold=0.5)
