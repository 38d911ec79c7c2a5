"""Seconds for one row of a U-Net: ours against the loop over voxels that was published.

The same patch, network and lesion for all, in turns, in one run; equality is asserted before any
time is printed. The published loop takes one voxel at a time through autograd and folds the
signed max over the whole patch; it is timed on a few rows and not extrapolated: a row is a row.

    python benchmarks/rows.py [--rows 32] [--rounds 3] [--json FILE]
"""

import argparse
import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from segxai.aggregators import SignedMax
from segxai.jacobian import rows
from segxai.segmentation import Predictor, frozen, whole_image

PATCH = 96
NETWORKS = {
    "paper's U-Net (32 to 512)": (32, 64, 128, 256, 512),
    "embedded U-Net (16 to 128)": (16, 32, 64, 128),
}


def main() -> None:
    """Time every network and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32, help="voxels of the lesion that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    found = {
        name: measure(unet(channels), lesion(asked.rows), asked.rounds)
        for name, channels in NETWORKS.items()
    }
    print(f"{'seconds a row, median':30}{'loop':>10}{'dense':>10}{'windowed':>10}{'faster':>10}")
    for name, seconds in found.items():
        ratio = seconds["loop"] / seconds["windowed"]
        row = "".join(f"{seconds[way]:10.4f}" for way in ("loop", "dense", "windowed"))
        print(f"{name:30}{row}{ratio:9.1f}x")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "seconds": found}, indent=2))


def unet(channels: tuple[int, ...]) -> nn.Module:
    """The network of the published scripts, with random weights and batch statistics."""
    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=0,
        norm="batch",
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def lesion(count: int) -> np.ndarray:
    """Voxels of a ball that does not sit on multiples of the stride, the nearest first."""
    voxels = np.argwhere(np.ones((PATCH,) * 3, dtype=bool))
    distance = np.linalg.norm(voxels - np.array([43.3, 51.7, 38.2]), axis=1)
    return voxels[np.argsort(distance, kind="stable")[:count]]


def measure(network: nn.Module, voxels: np.ndarray, rounds: int) -> dict[str, float]:
    """Median seconds a row of each way, in turns, after one round to warm up."""
    image = torch.randn(1, 2, *(PATCH,) * 3, generator=torch.Generator().manual_seed(0))
    predictor = Predictor(network, whole_image(image.shape[2:]))
    ways: dict[str, Callable[[], Tensor]] = {
        "loop": lambda: published_loop(network, image, voxels),
        "dense": lambda: ours(predictor, image, voxels, "dense"),
        "windowed": lambda: ours(predictor, image, voxels, "windowed"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with frozen(network):
        wanted = ways["loop"]().abs()
        for name in ("dense", "windowed"):
            error = float((ways[name]().abs() - wanted).abs().max() / wanted.max())
            if error > 1e-5:
                raise SystemExit(f"{name} rows differ from the loop by {error:.1e} of the peak")
        for _ in range(rounds):
            for name, way in ways.items():
                started = perf_counter()
                way()
                seconds[name].append((perf_counter() - started) / len(voxels))
    return {name: median(times) for name, times in seconds.items()}


def published_loop(network: nn.Module, image: Tensor, voxels: np.ndarray) -> Tensor:
    """One forward pass, then one voxel at a time: its gradient, folded over the whole patch."""
    leaf = image.clone().requires_grad_()
    logits = network(leaf)
    best = torch.zeros_like(image[0])
    for voxel in voxels:
        (gradient,) = torch.autograd.grad(logits[(0, 1, *voxel)], leaf, retain_graph=True)
        best = torch.where(gradient[0].abs() > best.abs(), gradient[0], best)
    return best


def ours(predictor: Predictor, image: Tensor, voxels: np.ndarray, engine: str) -> Tensor:
    """The same map by segxai's rows and fold."""
    fold = SignedMax()
    state = fold.start(image[0])
    for batch in rows(predictor, image, voxels, class_index=1, engine=engine):
        state = fold.add(state, batch)
    return fold.finish(state)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("segxai", "torch", "monai")},
    }


if __name__ == "__main__":
    main()
