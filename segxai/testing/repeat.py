"""Check of repeating: a run on the embedded case comes back from its record."""

import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from segxai.pipeline import explain_case
from segxai.plugins.adapter import Adapter
from segxai.rerun import Comparison, repeat
from segxai.run.options import Options
from segxai.run.prepare import prepare
from segxai.store.hdf5 import open_result
from segxai.testing.subject import CheckFailedError, Subject
from segxai.types import Quiet


class _Listening(Quiet):
    """A progress that remembers what differs between a run and its repetition."""

    def __init__(self) -> None:
        self.differences: list[str] = []

    def say(self, text: str) -> None:
        if text.startswith("warning: "):
            self.differences.append(text.removeprefix("warning: "))


def check_rerun(subject: Subject) -> str:
    """Check that the map of the smallest instance comes back; returns by how much it differs."""
    if subject.case is None:
        return "skipped, there is no embedded case"
    prediction, segmentation = subject.prediction_of_case
    bare = replace(subject.case, reference=None)
    found = prediction.instances(segmentation, subject.adapter.criteria, bare)
    label = min(found, key=lambda one: len(one.voxels)).label
    comparison, differences = _repeated(_recorded(subject.adapter), label)
    if differences:
        raise CheckFailedError(f"prepared again, the same run differs: {differences[0]}")
    if not comparison.agrees:
        raise CheckFailedError(
            f"the map of instance {label} is {comparison.in_words} of its peak off when it is "
            "repeated: something in the adapter changes between two runs"
        )
    return f"the map of instance {label} differs by {comparison.in_words} of its peak"


def _repeated(adapter: Adapter, label: int) -> tuple[Comparison, list[str]]:
    options = Options.of(method="gradient", aggregator="mean", labels=(label,), device="cpu")
    listening = _Listening()
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what looks wrong with the case is told by its runs
        out = Path(folder) / "run.h5"
        case = replace(adapter.embedded_case(), name="embedded")
        (run,) = explain_case(prepare(adapter, case, options), out)
        with open_result(out) as tree:
            again = repeat(adapter, tree, run, out.parent, device="cpu", progress=listening)
            (comparison,) = again
    return comparison, listening.differences


def _recorded(adapter: Adapter) -> Adapter:
    """Return the adapter with an origin: that of a package need not be installed for its tests."""
    origin = {"name": adapter.name, "package": "unknown", "version": "unknown"}
    return replace(adapter, origin=adapter.origin or origin)
