"""Activations that ran, known by their nodes in autograd's graph: be they modules or functions."""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

RELU = "ReluBackward"  # of nn.ReLU, of functional.relu, and of both in place
ACTIVATIONS = {
    RELU: "ReLU",
    "CeluBackward": "CELU",
    "ClampBackward": "clamp",
    "ClampMinBackward": "clamp",
    "EluBackward": "ELU or SELU",
    "GeluBackward": "GELU",
    "HardswishBackward": "Hardswish",
    "HardtanhBackward": "ReLU6 or Hardtanh",
    "LeakyReluBackward": "LeakyReLU",
    "MishBackward": "Mish",
    "PreluKernelBackward": "PReLU",
    "RreluWithNoiseBackward": "RReLU",
    "SiluBackward": "SiLU",
    "SoftplusBackward": "Softplus",
    "ThresholdBackward": "Threshold",
}


def kind_of(node: Node) -> str:
    """Return the kind of a node; "LeakyReluBackward1" is that of the operation in place."""
    return node.name().rpartition("::")[2].rstrip("0123456789")


def is_activated(tensor: Tensor) -> bool:
    """Return whether an activation returned this tensor."""
    return tensor.grad_fn is not None and kind_of(tensor.grad_fn) in ACTIVATIONS


def nodes_of(output: Tensor) -> Iterator[Node]:
    """Yield every node that a backward pass from this tensor will visit, each once."""
    waiting, seen = [output.grad_fn], set[Node]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(before for before, _ in node.next_functions)
