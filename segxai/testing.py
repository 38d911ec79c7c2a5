"""The conformance kit: whether an adapter does what the rest of segxai relies on.

Plugin authors call `check_adapter` in their own tests; `segxai check NAME` prints the same list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segxai.adapter import Adapter
from segxai.engines import find_engine
from segxai.errors import SegxaiError, one_line
from segxai.layers import find_layer
from segxai.methods.gradient import InstanceGradient
from segxai.segmentation import Predictor, frozen, whole_image
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

    A case or a network that fails to load ends the list: nothing else can be looked at.
    """
    yield _finding("the record makes sense", partial(_check_record, adapter))
    case, finding = _embedded_case(adapter)
    yield finding
    if not finding.holds:
        return
    try:
        network = adapter.load_network(None)
        subject = Subject(adapter, network, _window(adapter, network, case))
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        yield Finding("the network loads", False, _in_words(error))
        return
    yield Finding("the network loads", True)
    for what, check in CHECKS.items():
        yield _finding(what, partial(check, subject))
    yield _engine(subject)


def _engine(subject: Subject) -> Finding:
    """Which engine its network gets, and why: exact rows are possible with either."""
    what, shape = "rows can be computed", tuple(subject.image.shape[2:])
    predictor = Predictor(subject.network, whole_image(shape))
    middle = np.array([[n // 2 for n in shape]])
    try:
        with frozen(subject.network):
            suited = find_engine(predictor, subject.image, middle)
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        return Finding(what, False, _in_words(error))
    return Finding(what, True, f"{suited.name}; {suited.reason}")


def _embedded_case(adapter: Adapter) -> tuple[Case | None, Finding]:
    """The case that comes with the adapter, None if it has none, and what is to be said of it."""
    what = "the embedded case fits the adapter"
    if adapter.embedded_case is Adapter.embedded_case:
        return None, Finding(what, True, "skipped, there is none")
    try:
        case = adapter.embedded_case()
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        return None, Finding(what, False, _in_words(error))
    return case, _finding(what, partial(_check_case, adapter, case))


def _finding(what: str, check: Callable[[], str]) -> Finding:
    """A check returns "" or what is wrong; what it raises is wrong, too."""
    try:
        problem = check()
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        problem = _in_words(error)
    return Finding(what, not problem, problem)


def _in_words(error: Exception) -> str:
    name = "" if isinstance(error, SegxaiError) else f"{type(error).__name__}: "
    return name + one_line(error, limit=2000)


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
    if case.image.dtype != np.float32:
        return f"the image is {case.image.dtype}, not float32"
    if not np.isfinite(case.image).all():
        return "the image has NaN or infinite values"
    if case.foreground.shape != case.grid.shape or not case.foreground.any():
        return "the foreground is empty or has another shape than the grid"
    rank = len(case.grid.shape)
    if case.grid.affine.shape != (rank + 1, rank + 1) or case.grid.voxel_volume_mm3 <= 0:
        return f"an affine of shape {case.grid.affine.shape} for {rank} axes, or a singular one"
    adapter.layout(case.grid.shape)
    return ""


def _window(adapter: Adapter, network: nn.Module, case: Case | None) -> Image:
    """Input of the size that the network gets: from the embedded case, or random."""
    if case is not None:
        layout = adapter.layout(case.grid.shape)
        window = layout.windows[len(layout.windows) // 2]
        inside = window.inside(case.grid.shape)
        image = torch.zeros(1, len(adapter.channels), *window.size)
        image[inside.seen_from(window).index] = torch.from_numpy(case.image[inside.index])
        return image
    generator = torch.Generator().manual_seed(0)
    sizes = [adapter.window] if adapter.window else [(64, 64), (32, 32, 32)]
    images = [torch.randn(1, len(adapter.channels), *n, generator=generator) for n in sizes]
    return next((one for one in images if _takes(network, one)), images[-1])


def _takes(network: nn.Module, image: Image) -> bool:
    try:
        with torch.no_grad(), frozen(network):
            network(image)
    except Exception:  # whatever somebody else's code raises, this was no input for it
        return False
    return True


def _logits(subject: Subject) -> Any:
    """What the network returns: whether they are logits is to be seen."""
    with torch.no_grad(), frozen(subject.network):
        return subject.network(subject.image)


def _check_weights(subject: Subject) -> str:
    """A run that goes on later loads the network again."""
    again = subject.adapter.load_network(None).state_dict()
    changed = [
        name
        for name, value in subject.network.state_dict().items()
        if name not in again or not torch.equal(value, again[name])
    ]
    return f"loaded twice, {changed[0]} differs: the weights are random" if changed else ""


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
    sums = logits.sum(dim=1)
    normalised = logits.shape[1] == 1 or torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
    if bool(((logits >= 0) & (logits <= 1)).all()) and normalised:
        return "the network returns probabilities: leave out its last softmax or sigmoid"
    sums = logits.exp().sum(dim=1)
    if bool((logits <= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        return "the network returns log-probabilities: leave out its last log-softmax"
    return ""


def _check_repeatable(subject: Subject) -> str:
    if torch.equal(_logits(subject), _logits(subject)):
        return ""
    return "two passes in evaluation mode differ: something in the network is random"


def _check_gradients(subject: Subject) -> str:
    leaf = subject.image.clone().requires_grad_()
    with frozen(subject.network):
        if not subject.network(leaf).requires_grad:
            return "no gradient reaches the image: the network detaches it, or runs in no_grad"
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
    """A pass may not change the network: not its weights, its mode or its hooks."""
    network = subject.network
    # `frozen` mends modes when it ends, so the network is looked at inside of it, too.
    with frozen(network):
        before = _fingerprint(network)
        _explain(subject)
        with torch.no_grad():
            network(subject.image)
        after = _fingerprint(network)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return f"a pass through the network changes its {changed[0]}" if changed else ""


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
    """What must be the same after a pass as before it."""
    state: dict[str, object] = {
        f"tensor {name}": sha256(value.cpu().numpy().tobytes()).hexdigest()
        for name, value in network.state_dict().items()
    }
    for name, parameter in network.named_parameters():
        state[f"gradient of {name}"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in network.named_modules():
        hooks = len(module._forward_hooks) + len(module._backward_hooks)
        state[f"hooks of {name or 'the whole'}"] = hooks
        state[f"mode of {name or 'the whole'}"] = module.training
    return state


CHECKS: dict[str, Callable[[Subject], str]] = {
    "the same weights whenever it is loaded": _check_weights,
    "one finite logit for each class and voxel": _check_shape,
    "logits, not probabilities": _check_logits,
    "the same twice in evaluation mode": _check_repeatable,
    "gradients reach every channel": _check_gradients,
    "the network is left as it came": _check_left_alone,
    "the default layer exists": _check_layer,
}
