"""Train the embedded Swin UNETR: `python -m segxai_swin_unetr.recipe.train --help`."""

from functools import partial

import torch
from monai.inferers.utils import sliding_window_inference
from segxai_ms_lesion.preprocessing import normalise_all
from segxai_ms_lesion.recipe.losses import even_loss
from segxai_ms_lesion.recipe.train import Recipe, save_weights, train
from torch import Tensor, nn

from segxai_swin_unetr.network import WINDOW, load_swin_unetr, swin_unetr


def main() -> None:
    """Train with the recipe of the 3D U-Net, apart from what is said here."""
    recipe = Recipe(
        network=swin_unetr,
        with_weights=load_swin_unetr,
        normalise=normalise_all,
        predict=predict,
        save=partial(save_weights, half=True),
        loss=even_loss,
        batch=2,
        peak_rate=1e-3,
        memory_format=torch.channels_last_3d,
        validation_minutes=22.0,
    )
    train(recipe, minutes=90.0)


def predict(model: nn.Module, image: Tensor) -> Tensor:
    """Logits of a whole image by windows without overlap: quick, for validation alone."""
    return sliding_window_inference(image, WINDOW, 1, model, overlap=0.0)  # type: ignore[return-value]


if __name__ == "__main__":
    main()
