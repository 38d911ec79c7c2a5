"""Train the embedded Swin UNETR: `python -m segxai_swin_unetr.recipe.train --help`."""

from functools import partial

import torch
from segxai_ms_lesion.preprocessing import normalise_all
from segxai_ms_lesion.recipe.losses import even_loss
from segxai_ms_lesion.recipe.train import Recipe, save_weights, train

from segxai_swin_unetr.network import load_swin_unetr, swin_unetr


def main() -> None:
    """Train with the recipe of the 3D U-Net, apart from what is said here."""
    recipe = Recipe(
        plugin="swin_unetr",
        network=swin_unetr,
        with_weights=load_swin_unetr,
        normalise=normalise_all,
        save=partial(save_weights, half=True),
        loss=even_loss,
        batch=2,
        peak_rate=1e-3,
        memory_format=torch.channels_last_3d,
        validation_minutes=22.0,
    )
    train(recipe, minutes=90.0)


if __name__ == "__main__":
    main()
