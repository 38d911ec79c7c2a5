"""Train the embedded nnU-Net: `python -m segxai_nnunet.recipe.train --help`."""

import json
import math
from pathlib import Path

import torch
from segxai_ms_lesion.recipe.losses import even_loss
from segxai_ms_lesion.recipe.train import Recipe, train
from segxai_ms_lesion.recipe.validation import Choice
from torch import nn

from segxai_nnunet.folder import read_fold
from segxai_nnunet.network import build_network
from segxai_nnunet.preprocessing import z_scored

FOLDER = Path(__file__).parents[1] / "weights"
CONFIGURATION = "3d_fullres"


def main() -> None:
    """Train with the recipe of the 3D U-Net, apart from what is said here."""
    recipe = Recipe(
        plugin="nnunet",
        network=network,
        with_weights=load_checkpoint,
        normalise=z_scored,
        save=save_checkpoint,
        loss=even_loss,
        batch=2,
        peak_rate=2e-3,
        validation_minutes=18.0,
    )
    train(recipe, minutes=90.0)


def network() -> nn.Module:
    """Build the network of the embedded plans, with random weights."""
    plans = json.loads((FOLDER / "plans.json").read_text())
    return build_network(plans["configurations"][CONFIGURATION]["architecture"], 2, 2)


def load_checkpoint(path: Path) -> nn.Module:
    """Load the network with the weights of a fold's file, whose last bias holds its threshold."""
    model = network()
    model.load_state_dict(read_fold(path)["network_weights"])
    return model


def save_checkpoint(model: nn.Module, choice: Choice, path: Path) -> None:
    """Write a checkpoint as nnU-Net v2 does.

    nnU-Net predicts the class of the largest logit. The chosen threshold is therefore added to the
    bias of the last layer: lesion is the larger logit where its probability was above it.
    """
    state = dict(model.state_dict())  # no copies: several names share a tensor
    last = max(name for name in state if name.startswith("decoder.seg_layers.") and "bias" in name)
    state[last] = state[last].clone()
    state[last][1] += math.log((1 - choice.threshold) / choice.threshold)
    content = {
        "network_weights": state,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "fold": 0},
        "inference_allowed_mirroring_axes": (0,),
        "segxai_recipe": {"threshold": choice.threshold, "validation": json.dumps(choice.groups)},
    }
    torch.save(content, path)


if __name__ == "__main__":
    main()
