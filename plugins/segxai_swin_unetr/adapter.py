"""The adapter: the case of `ms_lesion`, explained for a Swin UNETR."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from segxai_ms_lesion import adapter as ms_lesion

from segxai import Adapter, SlidingWindow, hookimpl
from segxai_swin_unetr.network import WINDOW, load_swin_unetr, weights_file

THRESHOLD = 0.4
WINDOWS = SlidingWindow(WINDOW, overlap=0.25, evenly=True)


@hookimpl
def segxai_adapter(checkpoint: Path | None = None, weights_key: str | None = None) -> Adapter:
    """Build the adapter of the Swin UNETR for MS lesions, which takes the 3D U-Net's input.

    A checkpoint is taken to be trained on the paper's windows.
    """
    unet = ms_lesion.segxai_adapter()
    return replace(
        unet,
        load_network=partial(load_swin_unetr, checkpoint, weights_key),
        criteria=replace(unet.criteria, threshold=0.5 if checkpoint else THRESHOLD),
        predict=ms_lesion.PAPERS_WINDOWS if checkpoint else WINDOWS,
        weights=checkpoint or weights_file(),
        layer="decoder2",
        embedded_options={"labels": (4,), "rows": 4, "samples": 2},
        summary="lesions of multiple sclerosis on FLAIR and MPRAGE, Swin UNETR",
    )
