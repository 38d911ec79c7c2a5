"""Validate the embedded Swin UNETR: `python -m segxai_swin_unetr.recipe.validate --help`."""

from segxai_ms_lesion.preprocessing import normalise_all
from segxai_ms_lesion.recipe.validate import validate

from segxai_swin_unetr.network import load_swin_unetr

if __name__ == "__main__":
    validate("swin_unetr", normalise_all, load_swin_unetr)
