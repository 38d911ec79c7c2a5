"""Measured facts: the largest figures of all noisy copies, through every interruption."""

from collections.abc import Mapping

from segxai.methods.resume_state import State, state_to_tensors

PREFIX = "measured."  # of their names in a bookmark


class MeasuredFacts:
    """Figures on how rows were computed, each the largest of all images so far.

    Attributes
    ----------
    largest : dict
        Each figure by name.
    """

    def __init__(self) -> None:
        self.largest: dict[str, int | float] = {}

    def include(self, facts: Mapping[str, int | float]) -> None:
        """Take the figures of one more image, or of a part of it."""
        for name, value in facts.items():
            self.largest[name] = max(self.largest.get(name, value), value)

    def state(self) -> State:
        """Return what a bookmark keeps."""
        return {
            name: tensor
            for key, value in self.largest.items()
            for name, tensor in (state_to_tensors(value, PREFIX + key) or {}).items()
        }

    def restore(self, state: State) -> None:
        """Include the figures that an earlier process kept."""
        cut = len(PREFIX)
        self.include({n[cut:]: x.item() for n, x in state.items() if n.startswith(PREFIX)})
