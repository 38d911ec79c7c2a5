"""The checks of the conformance kit by name, and adapters that fail them."""

from dataclasses import replace

from segxai.testing import check_adapter
from tests.toy.segxai_toy import TOY, Toy

RECORD = "the record makes sense"
CASE = "the embedded case fits the adapter"
LOADS = "the network loads"
INPUT = "it takes its input"
SAME_WEIGHTS = "the same weights whenever it is loaded"
NAMED_WEIGHTS = "the weights are those of the file that is named"
SHAPE = "one finite logit for each class and voxel"
LOGITS = "logits, not probabilities"
TWICE = "the same twice in evaluation mode"
GRADIENTS = "gradients reach every channel"
LEFT = "the network is left as it came"
LAYER = "CAM methods can read the default layer"
WINDOWS = "windows add up to the prediction"
PLACES = "places in mm survive loading"
MIRRORS = "images can be mirrored"
INSTANCES = "the embedded case shows instances"
DETECTIONS = "detections are in their places, and frozen"
REFERENCE = "a reference is honoured"
ROWS = "rows can be computed"
REPEATED = "a run can be repeated"
LAST = [REFERENCE, ROWS, REPEATED]
PLAIN = [
    RECORD,
    CASE,
    LOADS,
    INPUT,
    SAME_WEIGHTS,
    NAMED_WEIGHTS,
    SHAPE,
    LOGITS,
    TWICE,
    GRADIENTS,
    LEFT,
    LAYER,
]
PROMISES = [*PLAIN, WINDOWS, PLACES, INSTANCES, *LAST]


def findings(adapter):
    return {finding.what: finding for finding in check_adapter(adapter)}


def broken(adapter):
    """What is wrong, by check."""
    return {
        what: finding.detail for what, finding in findings(adapter).items() if not finding.holds
    }


def with_network(change):
    """The toy with a network whose forward pass is changed."""

    class Changed(Toy):
        def forward(self, image):
            return change(self, super().forward, image)

    return replace(TOY, load_network=Changed)


def without(**changes):
    return replace(TOY, **changes)


def raise_error(*arguments):
    raise KeyError("weights")
