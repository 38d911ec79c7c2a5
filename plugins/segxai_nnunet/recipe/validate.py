"""Validate the embedded nnU-Net: `python -m segxai_nnunet.recipe.validate --help`."""

from segxai_ms_lesion.recipe.validate import validate

from segxai_nnunet.preprocessing import z_scored
from segxai_nnunet.recipe.train import load_checkpoint

if __name__ == "__main__":
    validate("nnunet", z_scored, load_checkpoint)
