"""The conformance kit: whether an adapter does what the rest of segxai relies on.

Plugin authors call `check_adapter` in their own tests; `segxai check NAME` prints the same list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.adapter import Adapter
from segxai.errors import SegxaiError, one_line
from segxai.layers import find_layer
from segxai.methods.gradient import InstanceGradient
from segxai.segmentation import frozen
from segxai.types import Case, Instance

Image = Float[Tensor, "1 channel *window"]


@dataclass(frozen=True)
class Finding:
    """One promise of an adapter: what was looked at, whether it holds, and why not."""

    what: str
    holds: bool
    detail: str = ""


@dataclass(frozen=True)
class Subject:
    """An adapter with its network loaded, and one window of input for it."""

    adapter: Adapter
    network: nn.Module
    image: Image


def check_adapter(adapter: Adapter) -> Iterator[Finding]:
    """Look at every promise in turn; yields one finding for each.

    The first failure to load ends the list: nothing else can be looked at.
    """
    yield _finding("the record makes sense", partial(_check_record, adapter))
    case: Case | None = None
    try:
        case = adapter.embedded_case()
        yield _finding("the embedded case fits the channels", partial(_check_case, adapter, case))
    except SegxaiError as error:
        yield Finding("the embedded case fits the channels", True, f"skipped: {error}")
    try:
        subject = Subject(adapter, adapter.load_network(None), _window(adapter, case))
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        yield Finding("the network loads", False, f"{type(error).__name__}: {one_line(error)}")
        return
    yield Finding("the network loads", True)
    for what, check in CHECKS.items():
        yield _finding(what, partial(check, subject))


def _finding(what: str, check: Callable[[], str]) -> Finding:
    """A check returns "" or what is wrong; what it raises is wrong, too."""
    try:
        problem = check()
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        problem = f"{type(error).__name__}: {one_line(error)}"
    return Finding(what, not problem, problem)


def _check_record(adapter: Adapter) -> str:
    adapter.rule()
    if not adapter.channels or len(set(adapter.channels)) < len(adapter.channels):
        return f"channels must be distinct names, found {adapter.channels}"
    if len(set(adapter.classes)) < len(adapter.classes):
        return f"classes must be distinct names, found {adapter.classes}"
    return ""


def _check_case(adapter: Adapter, case: Case) -> str:
    if case.image.shape != (len(adapter.channels), *case.grid.shape):
        return f"image {case.image.shape}, {len(adapter.channels)} channels, grid {case.grid.shape}"
    if case.channels != adapter.channels:
        return f"channels {case.channels}, the adapter's are {adapter.channels}"
    if not np.isfinite(case.image).all():
        return "the image has NaN or infinite values"
    if case.foreground.shape != case.grid.shape or not case.foreground.any():
        return "the foreground is empty or has another shape than the grid"
    rank = len(case.grid.shape)
    if case.grid.affine.shape != (rank + 1, rank + 1) or case.grid.voxel_volume_mm3 <= 0:
        return f"an affine of shape {case.grid.affine.shape} for {rank} axes, or a singular one"
    return ""


def _window(adapter: Adapter, case: Case | None) -> Image:
    """Input of the size that the network gets: from the embedded case, or random."""
    if case is not None:
        layout = adapter.layout(case.grid.shape)
        window = layout.windows[len(layout.windows) // 2]
        image = torch.from_numpy(case.image)[None]
        return image[window.inside(case.grid.shape).index]
    size = adapter.window or (64, 64)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, len(adapter.channels), *size, generator=generator)


def _logits(subject: Subject) -> Tensor:
    with torch.no_grad(), frozen(subject.network):
        logits: Tensor = subject.network(subject.image)
    return logits


def _check_shape(subject: Subject) -> str:
    logits, image = _logits(subject), subject.image
    wanted = (1, len(subject.adapter.classes), *image.shape[2:])
    if not isinstance(logits, Tensor):
        return f"the network returns a {type(logits).__name__}; return one tensor of logits"
    if tuple(logits.shape) != wanted:
        return f"{tuple(image.shape)} gives {tuple(logits.shape)}, not {wanted}"
    return "" if logits.isfinite().all() else "logits are not finite"


def _check_logits(subject: Subject) -> str:
    logits = _logits(subject)
    bounded = bool(((logits >= 0) & (logits <= 1)).all())
    sums = logits.sum(dim=1)
    normalised = logits.shape[1] == 1 or torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
    if bounded and normalised:
        return "the network returns probabilities: leave out its last softmax or sigmoid"
    if bool((logits <= 0).all()) and torch.allclose(
        logits.exp().sum(dim=1), torch.ones_like(sums), atol=1e-4
    ):
        return "the network returns log-probabilities: leave out its last log-softmax"
    return ""


def _check_repeatable(subject: Subject) -> str:
    if torch.equal(_logits(subject), _logits(subject)):
        return ""
    return "two passes in evaluation mode differ: something in the network is random"


def _check_gradients(subject: Subject) -> str:
    values = _explain(subject)
    if not values.isfinite().all():
        return "the gradient is not finite"
    silent = [
        name
        for name, channel in zip(subject.adapter.channels, values[0], strict=True)
        if not channel.any()
    ]
    return f"no gradient reaches channel {', '.join(silent)}" if silent else ""


def _check_left_alone(subject: Subject) -> str:
    """A forward pass may not change the network: not its weights, its mode or its hooks."""
    network = subject.network
    before = _fingerprint(network)
    _explain(subject)
    changed = [name for name, state in _fingerprint(network).items() if before.get(name) != state]
    return f"explaining changes the network: {changed[0]}" if changed else ""


def _check_layer(subject: Subject) -> str:
    if subject.adapter.layer:
        find_layer(subject.network, subject.adapter.layer)
    return ""


def _explain(subject: Subject) -> Tensor:
    """Mean gradient of a few voxels in the middle of the window."""
    shape = subject.image.shape[2:]
    mask = np.zeros(tuple(shape), dtype=bool)
    mask[tuple(slice(n // 2, n // 2 + 2) for n in shape)] = True
    index = subject.adapter.rule().class_index
    instance = Instance.from_mask(mask, class_index=index)
    values: Tensor = InstanceGradient(subject.network, "mean").attribute(subject.image, instance)
    return values


def _fingerprint(network: nn.Module) -> dict[str, object]:
    """What must be the same after an explanation as before it."""
    state: dict[str, object] = {
        f"tensor {name}": float(value.double().sum())
        for name, value in network.state_dict().items()
    }
    for name, parameter in network.named_parameters():
        state[f"gradient of {name}"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in network.named_modules():
        hooks = len(module._forward_hooks) + len(module._backward_hooks)
        state[f"mode and hooks of {name or 'the network'}"] = (module.training, hooks)
    return state


CHECKS: dict[str, Callable[[Subject], str]] = {
    "one finite logit for each class and voxel": _check_shape,
    "logits, not probabilities": _check_logits,
    "the same twice in evaluation mode": _check_repeatable,
    "gradients reach every channel": _check_gradients,
    "the network is left as it came": _check_left_alone,
    "the default layer exists": _check_layer,
}
