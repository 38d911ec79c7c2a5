"""Train an embedded network: `python -m segxai_ms_lesion.recipe.train --help` for the 3D U-Net.

The other networks for the same lesions have a `recipe.train` of their own, which calls `train`.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from segxai import load_adapter
from segxai_ms_lesion.network import load_unet, unet
from segxai_ms_lesion.preprocessing import normalise_all
from segxai_ms_lesion.recipe.bank import StoredCases
from segxai_ms_lesion.recipe.cases import Normalise
from segxai_ms_lesion.recipe.findings import find
from segxai_ms_lesion.recipe.losses import Loss, training_loss
from segxai_ms_lesion.recipe.pool import CasePool, running_pool
from segxai_ms_lesion.recipe.sources import training_mask_numbers
from segxai_ms_lesion.recipe.validation import Choice, held_out_cases

PATCH_VOXELS = 64
FIRST_CASES = 24
STEPS_A_CASE = 10  # at least: making cases shares the processor with training
WEIGHT_DECAY = 1e-4
WARM_UP_SHARE = 0.03
AVERAGE_STEPS = 1000
AVERAGE_SHARE = 0.1  # of the steps so far, at most: short runs average what is recent, too


@dataclass(frozen=True)
class Recipe:
    """What differs between the networks of one recipe.

    Parameters
    ----------
    plugin : str
        Through whose windows it is validated.
    network : callable
        Makes the network with random weights.
    with_weights : callable
        Makes it with the weights of a file.
    normalise : callable
        Maps raw channels to what the network is fed.
    save : callable
        Writes a network with its threshold and validation scores to a path.
    loss : callable
        Maps logits and labelled lesions to what is minimised.
    batch : int
        Patches a step.
    peak_rate : float
        Largest learning rate.
    memory_format : torch.memory_format
        The layout in which it trains fastest.
    validation_minutes : float
        Time between two validations.
    """

    plugin: str
    network: Callable[[], nn.Module]
    with_weights: Callable[[Path], nn.Module]
    normalise: Normalise
    save: Callable[[nn.Module, Choice, Path], None]
    batch: int
    peak_rate: float
    loss: Loss = training_loss
    memory_format: torch.memory_format = torch.contiguous_format
    validation_minutes: float = 5.0


def main() -> None:
    """Train the embedded 3D U-Net."""
    train(
        Recipe(
            plugin="ms_lesion",
            network=unet,
            with_weights=load_unet,
            normalise=normalise_all,
            save=save_weights,
            batch=4,
            peak_rate=4e-3,
            memory_format=torch.channels_last_3d,
        ),
        minutes=70.0,
    )


def train(recipe: Recipe, minutes: float) -> None:
    """Read the command line and train; `minutes` unless told otherwise."""
    asked = _arguments(recipe, minutes)
    recipe = replace(recipe, peak_rate=asked.rate)
    torch.manual_seed(asked.seed)
    torch.set_num_threads(asked.threads)
    adapter = load_adapter(recipe.plugin)
    cases = held_out_cases(asked.data, recipe.normalise)
    with pool_of(recipe, asked.data, asked.bank, asked.seed) as pool:
        pool.wait_for(FIRST_CASES)
        model = recipe.with_weights(asked.start) if asked.start else recipe.network()
        training = Training(recipe, model, pool, asked.seed, asked.minutes)
        while training.progress() < 1:
            training.run(recipe.validation_minutes)
            choice = find(adapter, InBfloat16(training.average), cases).best()
            report(training, choice)
            recipe.save(training.average, choice, latest(asked.out))
            if training.improves(choice):
                recipe.save(training.average, choice, asked.out)


def _arguments(recipe: Recipe, minutes: float) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train an embedded lesion network.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights to start from; default: random ones")
    parser.add_argument("--bank", type=Path, help="cases of `recipe.bank`, not made as it trains")
    parser.add_argument("--rate", type=float, default=recipe.peak_rate, help="at its peak")
    parser.add_argument("--out", type=Path, required=True, help="where to write the weights")
    return parser.parse_args()


def pool_of(
    recipe: Recipe, data: Path, bank: Path | None, seed: int
) -> AbstractContextManager[CasePool]:
    """Take the cases of a bank, or those that another process makes meanwhile."""
    if bank is not None:
        return nullcontext(CasePool(StoredCases(bank, recipe.normalise)))
    return running_pool(data, tuple(training_mask_numbers(data)), recipe.normalise, seed)


class InBfloat16(nn.Module):
    """A network that computes as in training, which is quick: for validation alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Logits in single precision."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits: Tensor = self.network(image)
        return logits.float()


def latest(path: Path) -> Path:
    """Where the weights of the last validation lie, beside the best ones."""
    return path.with_stem(f"{path.stem}_latest")


class Training:
    """A network on its way; the rate follows the clock, so that it ends with the minutes."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, pool: CasePool, seed: int, minutes: float
    ) -> None:
        self.recipe = recipe
        self.model = model.train().to(memory_format=recipe.memory_format)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.peak_rate, weight_decay=WEIGHT_DECAY
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
        if self.steps % STEPS_A_CASE == 0:
            self.pool.refresh()
        patches = self.pool.patches(self.recipe.batch, PATCH_VOXELS, self.random)
        image = torch.from_numpy(np.stack([patch.image for patch in patches])).float()
        lesions = torch.from_numpy(np.stack([patch.lesions for patch in patches])).long()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.peak_rate * rate_factor(self.progress())
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(image.contiguous(memory_format=self.recipe.memory_format))
        loss = self.recipe.loss(logits, lesions)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        # In bfloat16 the backward pass of a transformer overflows now and then.
        if bool(norm.isfinite()):
            self.optimizer.step()
            self._follow(float(loss.detach()))

    def _follow(self, loss: float) -> None:
        """Move the averages of weights, statistics and loss."""
        self.steps += 1
        recent = min(AVERAGE_SHARE * self.steps, AVERAGE_STEPS)
        keep = 1 - 1 / max(recent, 1.0)
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


def save_weights(model: nn.Module, choice: Choice, path: Path, *, half: bool = False) -> None:
    """Write weights, threshold and validation scores to a safetensors file.

    With `half`, tensors are written in half precision, and without the indices that the
    architecture makes itself; the scores are those of single precision.
    """
    state: dict[str, Tensor] = {
        name: value.contiguous(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    if half:
        state = {name: value.half() for name, value in state.items() if value.is_floating_point()}
    metadata = {"threshold": str(choice.threshold), "validation": json.dumps(choice.groups)}
    save_file(state, path, metadata=metadata)


if __name__ == "__main__":
    main()
