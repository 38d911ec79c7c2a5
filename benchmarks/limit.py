"""Operations of the windows compared with those of the dense way, and the machine's peak.

Counts the floating-point operations (two for a multiplication and an addition) of the convolutions
and matrix products that are really executed, inside of the engines too; what acts on each voxel
alone is not counted. The dense count over the windowed count is what windows could win if both
reached the same share of the machine's peak, which a large float32 matrix product measures here.
Then the engines are timed: their shares of the peak tell what holds them back.

    python benchmarks/limit.py [--networks unet,embedded] [--voxels 93] [--json FILE]
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from segxai.segment.inference_mode import exact_arithmetic
from workbench import engines, lesions
from workbench.clock import in_turns, seconds
from workbench.networks import SUBJECTS, Setting, setting
from workbench.report import finish, options, table, words

GIGA = 1e9
DENSE_ROWS = 8  # all cost the same


class Count(TorchDispatchMode):
    """A counter of the operations of convolutions and matrix products.

    torch's own counter takes the shape that a cotangent shows to autograd, which is the dense one,
    and sees nothing of what happens inside. Here, an operation on a tensor subclass is left to the
    subclass, and counted where it is executed, on plain tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count it."""
        arguments = kwargs or {}
        leaves = trees.tree_leaves((args, arguments))
        if any(isinstance(one, Tensor) and type(one) not in PLAIN for one in leaves):
            return NotImplemented
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # an operation made of others: those are counted
                parts = func.decompose(*args, **arguments)
            return func(*args, **arguments) if parts is NotImplemented else parts
        found = func(*args, **arguments)
        self.operations += formula(*args, **arguments, out_val=found)
        return found


PLAIN = (Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class Figure:
    """One way through one network: its operations, and its seconds in each round."""

    network: str
    voxels: int
    way: str
    operations_a_row: float
    seconds_a_row: list[float]
    peak: float  # operations a second

    @property
    def shares(self) -> list[float]:
        """The share of the machine's peak that it reached in each round."""
        return [self.operations_a_row / taken / self.peak for taken in self.seconds_a_row]


def main() -> None:
    """Count and time both ways through every network."""
    asked = arguments()
    peak = measured_peak(asked.device, asked.product)
    print(f"peak: {peak / GIGA:,.0f} billion operations a second, a float32 matrix product")
    figures = []
    for name in asked.networks:
        figures += measure(setting(name, asked.device), name, asked.voxels, peak, asked)
    show(figures)
    for dense, windowed in zip(figures[::2], figures[1::2], strict=True):
        print(in_words(dense, windowed))
    found = {"peak_operations_a_second": peak, "ways": [asdict(one) for one in figures]}
    finish("limit", asked, found)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--networks", type=words, default=["unet", "embedded"], help=",".join(SUBJECTS))
    add("--voxels", type=int, default=93, help="of the lesion")
    add("--product", type=int, default=4096, help="size of the matrices that measure the peak")
    add("--rounds", type=int, default=3)
    add("--device", default="cpu", help="such as cuda")
    return parser.parse_args()


def measured_peak(device: str, size: int) -> float:
    """Measure operations a second: the best of a few products of two square float32 matrices."""
    one, other = (torch.randn(size, size, device=device) for _ in range(2))
    with exact_arithmetic():
        multiply = partial(torch.matmul, one, other)
        multiply()
        return 2 * size**3 / min(seconds(multiply, device) for _ in range(5))


def measure(
    scene: Setting, name: str, count: int, peak: float, asked: argparse.Namespace
) -> list[Figure]:
    """Measure the dense and the windowed way, without the forward pass that both need."""
    voxels = lesions.ball(scene.subject.patch, count)
    parts = {"dense": lesions.sample(voxels, DENSE_ROWS), "windowed": voxels}
    jobs = {
        way: partial(engines.signed_max, scene, part, engines.chosen(scene, part, way))
        for way, part in parts.items()
    }
    jobs["forward"] = partial(scene.network, scene.image)
    with exact_arithmetic():
        counts = {way: operations(job) for way, job in jobs.items()}  # and warms up
        jobs["forward"] = partial(scene.network, scene.image.clone().requires_grad_())
        times = in_turns(jobs, asked.rounds, asked.device)
    found = []
    for way, part in parts.items():
        needed = (counts[way] - counts["forward"]) / len(part)
        rounds = zip(times[way], times["forward"], strict=True)
        taken = [max(whole - once, 1e-9) / len(part) for whole, once in rounds]
        found.append(Figure(name, count, way, needed, taken, peak))
    return found


def operations(work: Callable[[], Any]) -> int:
    """Count the operations that some work executes."""
    with Count() as count:
        work()
    return count.operations


def show(figures: list[Figure]) -> None:
    """Print the figures as a table."""
    lines = [
        [
            f"{one.network} {one.voxels} {one.way}",
            f"{one.operations_a_row / GIGA:.4f}",
            f"{1000 * min(one.seconds_a_row):.2f} to {1000 * max(one.seconds_a_row):.2f}",
            f"{min(one.shares):.0%} to {max(one.shares):.0%}",
        ]
        for one in figures
    ]
    head = ["network, voxels, way", "10^9 a row", "ms a row", "of the peak"]
    table("backward pass of a row", head, lines)


def in_words(dense: Figure, windowed: Figure) -> str:
    """Compare the measured gain with what the operations allow, in a sentence."""
    allowed = dense.operations_a_row / windowed.operations_a_row
    rounds = zip(dense.seconds_a_row, windowed.seconds_a_row, strict=True)
    won = [one / other for one, other in rounds]
    return (
        f"{dense.network}: windows need {allowed:.1f} times fewer operations and are "
        f"{min(won):.1f} to {max(won):.1f} times faster"
    )


if __name__ == "__main__":
    main()
