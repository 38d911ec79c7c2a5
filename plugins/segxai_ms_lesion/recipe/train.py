"""Train the embedded network: `python -m segxai_ms_lesion.recipe.train --help`."""

import argparse
import copy
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segxai_ms_lesion.network import unet
from segxai_ms_lesion.recipe.losses import training_loss
from segxai_ms_lesion.recipe.pool import CasePool, running_pool
from segxai_ms_lesion.recipe.sources import training_mask_numbers
from segxai_ms_lesion.recipe.validation import Choice, best_threshold, held_out_cases

PATCH_VOXELS = 64
BATCH = 4
FIRST_CASES = 24
PEAK_RATE = 4e-3
WEIGHT_DECAY = 1e-4
WARM_UP_SHARE = 0.03
AVERAGE_STEPS = 1000
VALIDATION_MINUTES = 5.0


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the embedded lesion network.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file to write")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    masks = tuple(training_mask_numbers(asked.data))
    cases = held_out_cases(asked.data)
    with running_pool(asked.data, masks, asked.seed) as pool:
        pool.wait_for(FIRST_CASES)
        training = Training(pool, asked.seed, asked.minutes)
        while training.progress() < 1:
            training.run(VALIDATION_MINUTES)
            choice = best_threshold(training.average, cases)
            report(training, choice)
            if training.improves(choice):
                save_weights(training.average, choice, asked.out)


class Training:
    """A network on its way; the rate follows the clock, so that it ends with the minutes."""

    def __init__(self, pool: CasePool, seed: int, minutes: float) -> None:
        self.model = unet().to(memory_format=torch.channels_last_3d)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY
        )
        self.pool = pool
        self.random = np.random.default_rng([seed, 2**31])
        self.minutes = minutes
        self.start = time.monotonic()
        self.steps = 0
        self.loss = math.nan
        self.best_quality = -math.inf

    def progress(self) -> float:
        """Share of the minutes that is spent, 0 to 1 and beyond."""
        return (time.monotonic() - self.start) / 60 / self.minutes

    def run(self, minutes: float) -> None:
        """Train for so long, or to the end."""
        stop = time.monotonic() + 60 * minutes
        while time.monotonic() < stop and self.progress() < 1:
            self.step()

    def step(self) -> None:
        """One batch, one update of the weights and of their running average."""
        self.pool.refresh()
        patches = self.pool.patches(BATCH, PATCH_VOXELS, self.random)
        image = torch.from_numpy(np.stack([patch.image for patch in patches])).float()
        lesions = torch.from_numpy(np.stack([patch.lesions for patch in patches])).long()
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * rate_factor(self.progress())
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(image.contiguous(memory_format=torch.channels_last_3d))
        loss = training_loss(logits, lesions)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._follow(float(loss.detach()))

    def _follow(self, loss: float) -> None:
        """Move the averages of weights, statistics and loss."""
        self.steps += 1
        keep = 1 - 1 / min(self.steps, AVERAGE_STEPS)
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - keep)
        self.loss = loss if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * loss

    def improves(self, choice: Choice) -> bool:
        """Whether the choice is the best so far; remembered."""
        better = choice.quality > self.best_quality
        self.best_quality = max(choice.quality, self.best_quality)
        return better


def rate_factor(progress: float) -> float:
    """Learning rate relative to its peak: a short rise, then half a cosine to 0."""
    if progress < WARM_UP_SHARE:
        return progress / WARM_UP_SHARE
    rest = min((progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE), 1.0)
    return 0.5 * (1 + math.cos(math.pi * rest))


def report(training: Training, choice: Choice) -> None:
    """One line of progress, as JSON."""
    record = {
        "minutes": round((time.monotonic() - training.start) / 60, 1),
        "steps": training.steps,
        "cases": training.pool.made,
        "loss": round(training.loss, 4),
        **asdict(choice),
    }
    print(json.dumps(record), flush=True)


def save_weights(model: nn.Module, choice: Choice, path: Path) -> None:
    """Write weights, threshold and validation scores to a safetensors file."""
    state: dict[str, Tensor] = {
        name: value.contiguous(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    metadata = {"threshold": str(choice.threshold), "validation": json.dumps(choice.groups)}
    save_file(state, path, metadata=metadata)


if __name__ == "__main__":
    main()
