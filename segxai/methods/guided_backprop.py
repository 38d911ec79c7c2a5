"""Guided backpropagation at every ReLU that runs, whether it is a module or a function."""

from typing import Any

from captum.attr import GradientAttribution, Saliency
from captum.log import log_usage
from torch import Tensor, nn

from segxai.errors import warn
from segxai.methods.activations import ACTIVATIONS, RELU, kind_of, nodes_of
from segxai.rows.instance_score import InstanceScore
from segxai.rows.window_pass import OwnMemory

HIDDEN = {
    "CompiledFunctionBackward": "whatever torch.compile holds",
    "CopySlices": "whatever is written into a part of a tensor",
}


class GuidedBackprop(GradientAttribution):
    """Guided backpropagation: the gradient, with what is negative left out behind every ReLU.

    Captum's version acts on `nn.ReLU` modules alone, and is silently the plain gradient at a
    functional ReLU. This one looks at what ran: it acts on both, gives the same values where all
    are modules, and warns of other activations.

    Parameters
    ----------
    model : nn.Module
        Such as `InstanceScore(model, instance)`, of which one window's graph is held at a time.

    References
    ----------
    Springenberg et al., "Striving for simplicity: the all convolutional net", 2015,
    arXiv:1412.6806.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model = model

    @log_usage()
    def attribute(
        self, inputs: Any, target: Any = None, additional_forward_args: Any = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the map of each input; the arguments are those of Captum's class.

        Warns
        -----
        SegxaiWarning
            If activations other than ReLU ran, at which it is the plain gradient.
        """
        if isinstance(self.model, InstanceScore) and isinstance(inputs, Tensor):
            return self.model.gradient(inputs, guide)
        plain = Saliency(self._guided)
        found: Tensor | tuple[Tensor, ...] = plain.attribute(
            inputs, target, abs=False, additional_forward_args=additional_forward_args
        )
        return found

    def _guided(self, *inputs: Any) -> Tensor:
        """Run the model, and prepare the graph of its output for the backward pass."""
        with OwnMemory():
            output: Tensor = self.model(*inputs)
        guide(output)
        return output


def guide(output: Tensor) -> None:
    """Make the backward pass from an output leave out what is negative behind every ReLU.

    Warns
    -----
    SegxaiWarning
        If activations other than ReLU ran.
    """
    nodes = list(nodes_of(output))
    relus = [node for node in nodes if kind_of(node) == RELU]
    for node in relus:
        node.register_prehook(lambda gradients: tuple(one.relu() for one in gradients))
    known = {**ACTIVATIONS, **HIDDEN}
    others = sorted({known[kind_of(node)] for node in nodes if kind_of(node) in known} - {"ReLU"})
    if not relus:
        warn(
            "the network ran no ReLU"
            + (f" but {', '.join(others)}" if others else "")
            + ": guided backpropagation is its plain gradient here"
        )
    elif others:
        warn(
            f"guided backpropagation acts on ReLU alone: it is the plain gradient at "
            f"{', '.join(others)}, which this network ran, too"
        )
