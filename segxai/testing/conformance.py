"""The conformance kit: checks that an adapter does what the rest of segxai relies on.

Plugin authors call `check_adapter` in their own tests; `segxai check NAME` prints the same list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from segxai.plugins.adapter import Adapter
from segxai.testing import geometry, instances, network, record, reference, repeat
from segxai.testing.subject import Subject, in_words, make_subject
from segxai.types import Case


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of an adapter: what was checked, whether it holds, and why not.

    The detail of a check that holds gives numbers, or says what was left out.
    """

    what: str
    holds: bool
    detail: str = ""


def check_adapter(adapter: Adapter) -> Iterator[CheckResult]:
    """Run every check in turn, and yield one result for each.

    A case or a network that fails to load, or a network that takes no input, ends the list:
    nothing else can be checked.
    """
    yield _finding("the record makes sense", partial(record.check_record, adapter))
    case, finding = _embedded_case(adapter)
    yield finding
    if not finding.holds:
        return
    try:
        subject = make_subject(adapter, adapter.load_network(), case)
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        yield CheckResult("the network loads", False, in_words(error))
        return
    yield CheckResult("the network loads", True)
    yield (first := _finding("it takes its input", partial(network.check_input, subject)))
    if first.holds:
        for what, check in _checks(subject).items():
            yield _finding(what, partial(check, subject))


def _embedded_case(adapter: Adapter) -> tuple[Case | None, CheckResult]:
    """Load and check the case that comes with the adapter; None if there is none to use."""
    what = "the embedded case fits the adapter"
    if adapter.embedded_case is Adapter.embedded_case:
        return None, CheckResult(what, True, "skipped, there is none")
    try:
        case = adapter.embedded_case()
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        return None, CheckResult(what, False, in_words(error))
    return case, _finding(what, partial(record.check_case, adapter, case))


def _finding(what: str, check: Callable[[], str]) -> CheckResult:
    """Run a check: what it returns is the detail, and what it raises is the failure."""
    try:
        return CheckResult(what, True, check())
    except Exception as error:  # somebody else's code: whatever it raises is the finding
        return CheckResult(what, False, in_words(error))


def _checks(subject: Subject) -> dict[str, Callable[[Subject], str]]:
    """List the checks for an adapter of this kind, each with its function."""
    detections = subject.detections
    checks: dict[str, Callable[[Subject], str]] = {
        "the same weights whenever it is loaded": network.check_weights,
        "the weights are those of the file that is named": network.check_named_weights,
        "one finite logit for each class and voxel": network.check_logits,
        "logits, not probabilities": network.check_unnormalised,
        "the same twice in evaluation mode": network.check_repeatable,
        "gradients reach every channel": network.check_gradients,
        "the network is left as it came": network.check_left_alone,
        "CAM methods can read the default layer": network.check_layer,
        "windows add up to the prediction": geometry.check_windows,
        "places in mm survive loading": geometry.check_places,
    }
    if subject.adapter.mirror_axes:
        checks["images can be mirrored"] = instances.check_mirrors
    if detections is None:
        checks["the embedded case shows instances"] = instances.check_instances
    else:
        look = partial(instances.check_detections, found=detections)
        checks["detections are in their places, and frozen"] = look
    return {
        **checks,
        "a reference is honoured": reference.check_reference,
        "rows can be computed": network.check_rows,
        "a run can be repeated": repeat.check_rerun,
    }
