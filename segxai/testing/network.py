"""Checks of the network: its logits, their gradients, and that nothing changes it."""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from segxai.errors import SegxaiError
from segxai.methods.gradient import InstanceGradient
from segxai.methods.layers import layout_of
from segxai.rows.engines import find_engine
from segxai.segment.inference_mode import frozen
from segxai.segment.logits import kind_of, logits_of
from segxai.segment.predictor import stride_of
from segxai.segment.weight_sets import most_likely, weight_sets
from segxai.segment.weights import read_tensors
from segxai.testing.subject import CheckFailedError, Subject, in_words
from segxai.types import Instance


def check_input(subject: Subject) -> str:
    """Check that the network takes its input; returns what is unusual about its output."""
    with torch.no_grad(), frozen(subject.network):
        try:
            output = subject.predictor(subject.image)
            own = subject.network(subject.image) if subject.is_plain else output
        except Exception as error:
            names = ", ".join(subject.adapter.channels)
            raise CheckFailedError(
                f"given {tuple(subject.image.shape)}, channels {names}: {in_words(error)}"
            ) from error
    if not subject.is_plain:
        return "through the adapter's own predictor"
    return "; ".join(_form(own, subject))


def _form(output: object, subject: Subject) -> list[str]:
    """Describe what is unusual about an output that can be used."""
    logits, told = logits_of(output, subject.predictor.output), []
    if not isinstance(output, Tensor):
        told.append(f"logits are taken out of a {type(output).__name__}")
    stride = stride_of(logits.shape, subject.image.shape)
    if stride is not None and stride > 1:
        told.append(f"logits at 1/{stride} of the resolution are interpolated linearly")
    return told


def check_weights(subject: Subject) -> str:
    """Check that loading the network again gives the same weights, as resuming a run needs."""
    again = subject.adapter.load_network().state_dict()
    for name, value in subject.network.state_dict().items():
        if name not in again or not torch.equal(value, again[name]):
            raise CheckFailedError(f"loaded twice, {name} differs: the weights are random")
    return ""


def check_named_weights(subject: Subject) -> str:
    """Check that the weights whose sha256 results keep are those that are loaded."""
    path = subject.adapter.weights
    if path is None:
        return "skipped, no file is named"
    try:
        content = read_tensors(path)
    except SegxaiError:
        return "skipped, they are not in one file of tensors"
    mine = {
        name: value
        for name, value in subject.network.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    sets = most_likely(weight_sets(content, list(mine)), list(mine))
    if not sets:
        return f"skipped, {path.name} has other names for its tensors"
    differing = [_first_differing(mine, one.tensors) for one in sets]
    if None in differing:
        return path.name
    raise CheckFailedError(f"{differing[0]} is not as in {path.name}, which `weights` names")


def _first_differing(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that is in both and not the same; None if there is none."""
    return next(
        (
            name
            for name, value in mine.items()
            if name in theirs and not torch.equal(value.float(), theirs[name].float())
        ),
        None,
    )


def check_logits(subject: Subject) -> str:
    """Check that there is one finite number for each class and voxel."""
    logits, image = subject.logits(), tuple(subject.image.shape)
    grid = image[2:]
    if subject.predictor.readout is not None:
        grid = subject.case.domain_grid.shape if subject.case else tuple(logits.shape[2:])
    wanted = (1, len(subject.classes), *grid)
    if tuple(logits.shape) != wanted:
        raise CheckFailedError(f"{image} gives {tuple(logits.shape)}, not {wanted}")
    if not logits.isfinite().all():
        raise CheckFailedError("logits are not finite")
    return ""


def check_unnormalised(subject: Subject) -> str:
    """Check that the network returns logits, not probabilities."""
    kind = kind_of(subject.logits())
    if kind in ("probabilities", "unit interval"):
        raise CheckFailedError(
            "the network returns probabilities: leave out its last softmax or sigmoid"
        )
    if kind == "log-probabilities":
        raise CheckFailedError(
            "the network returns log-probabilities: leave out its last log-softmax"
        )
    return ""


def check_repeatable(subject: Subject) -> str:
    """Check that two passes in evaluation mode return the same logits."""
    if torch.equal(subject.logits(), subject.logits()):
        return ""
    raise CheckFailedError(
        "two passes in evaluation mode differ: something in the network is random"
    )


def check_gradients(subject: Subject) -> str:
    """Check that gradients reach every channel, so that it can be explained."""
    leaf = subject.image.clone().requires_grad_()
    with frozen(subject.network):
        if not subject.predictor(leaf).requires_grad:
            raise CheckFailedError(
                "no gradient reaches the image: the network detaches it, or runs in no_grad"
            )
    values = explain(subject)
    if not values.isfinite().all():
        raise CheckFailedError("the gradient is not finite")
    each = zip(subject.adapter.channels, values[0], strict=True)
    silent = [name for name, channel in each if not channel.any()]
    if silent:
        raise CheckFailedError(f"no gradient reaches channel {', '.join(silent)}")
    return ""


def check_left_alone(subject: Subject) -> str:
    """Check that a pass does not change the network's weights, mode or hooks."""
    network = subject.network
    # `frozen` restores modes when it ends, so the network is compared inside of it.
    with frozen(network):
        before = _fingerprint(network)
        explain(subject)
        with torch.no_grad():
            subject.predictor(subject.image)
        after = _fingerprint(network)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise CheckFailedError(f"a pass through the network changes its {changed[0]}")
    return ""


def check_layer(subject: Subject) -> str:
    """Check that CAM methods can read the default layer, and tell its layout."""
    if not subject.adapter.layer:
        return "none is named"
    layout = layout_of(subject.predictor, subject.image, subject.adapter.layer)
    return f"{subject.adapter.layer}, {layout}"


def check_rows(subject: Subject) -> str:
    """Tell which engine the network gets, and why: exact rows are possible with either."""
    with frozen(subject.network):
        voxels = _middle(subject).voxels
        suited = find_engine(subject.predictor, subject.image, voxels)
    return f"{suited.name}; {suited.reason}"


def explain(subject: Subject) -> Tensor:
    """Compute the mean gradient of a few voxels: of a detection, or in the middle."""
    method = InstanceGradient(subject.predictor, "mean")
    values: Tensor = method.attribute(subject.image, _middle(subject))
    return values


def _middle(subject: Subject) -> Instance:
    if subject.detections is not None:
        return Instance(1, subject.detections.domains[0], class_index=0)
    shape = tuple(subject.logits().shape[2:])
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(n // 2, n // 2 + 2) for n in shape)] = True
    return Instance.from_mask(mask, class_index=subject.adapter.criteria.logit)


def _fingerprint(network: nn.Module) -> dict[str, object]:
    """Collect what must be the same after a pass as before it."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    state: dict[str, object] = {f"tensor {name}": _hash(one) for name, one in tensors.items()}
    for name, parameter in network.named_parameters():
        state[f"gradient of {name}"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in network.named_modules():
        hooks = len(module._forward_hooks) + len(module._backward_hooks)
        state[f"hooks of {name or 'the whole'}"] = hooks + len(module._forward_pre_hooks)
        state[f"mode of {name or 'the whole'}"] = module.training
    return state


def _hash(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().flatten()
    return sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()
