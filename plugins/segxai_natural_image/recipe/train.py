"""Train the embedded network: `python -m segxai_natural_image.recipe.train --out FILE`.

The photograph comes with scikit-image. Coins on its left are trained on, those on its right score.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import coins
from torch import Tensor, nn
from torch.nn import functional

from segxai_natural_image.coin_network import MEAN, STANDARD_DEVIATION, STRIDE, CoinNetwork
from segxai_natural_image.recipe.augmentation import Planes, patches
from segxai_natural_image.recipe.evaluation import score
from segxai_natural_image.recipe.labels import draw_coins

TRAINED_COLUMNS = 242  # from the left; coins that lie wholly behind them are held out
BATCH = 8
PEAK_RATE = 4e-3
WEIGHT_DECAY = 1e-3


def main() -> None:
    """Read the command line, draw the coins, train, score, and write the weights."""
    parser = argparse.ArgumentParser(description="Train the embedded coin network.")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where to write the weights")
    parser.add_argument("--labels", type=Path, help="where to write the coins as drawn, a PNG")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    torch.set_num_threads(1)
    photograph = coins()
    labels = draw_coins(photograph)
    if asked.labels:
        Image.fromarray(labels.astype(np.uint8)).save(asked.labels, optimize=True)
    planes = torch.from_numpy(np.stack([photograph / 255, labels > 0]).astype(np.float32))
    network = train(planes[..., :TRAINED_COLUMNS], asked.steps, asked.seed)
    save_file(network.state_dict(), asked.out)
    for part, found in score(network, photograph, labels, TRAINED_COLUMNS).items():
        print(json.dumps({"part": part, **found}))


def train(planes: Planes, steps: int, seed: int) -> nn.Module:
    """Train the network, and return it in eval mode."""
    network = CoinNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    start = time.monotonic()
    for step in range(1, steps + 1):
        batch = patches(planes, BATCH, generator)
        loss = _loss(network(_normalised(batch[:, :1])), batch[:, 1])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            seconds = round(time.monotonic() - start)
            print(
                json.dumps(
                    {"step": step, "loss": round(float(loss.detach()), 4), "seconds": seconds}
                )
            )
    return network.eval()


def _normalised(grey: Tensor) -> Tensor:
    return (255 * grey - MEAN) / STANDARD_DEVIATION


def _loss(logits: Tensor, coin: Tensor) -> Tensor:
    """Cross-entropy of the interpolated logits, and the Dice of each patch's coins."""
    fine = functional.interpolate(logits, scale_factor=float(STRIDE), mode="bilinear")
    probability = fine.softmax(dim=1)[:, 1]
    overlap = 2 * (probability * coin).sum((1, 2)) + 1
    dice = overlap / (probability.sum((1, 2)) + coin.sum((1, 2)) + 1)
    return functional.cross_entropy(fine, coin.long()) + 1 - dice.mean()


if __name__ == "__main__":
    main()
