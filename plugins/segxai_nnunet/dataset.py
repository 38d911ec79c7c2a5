"""nnU-Net's dataset.json: the names of a network's channels and logits."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segxai import Activation, SegxaiError, one_line
from segxai_nnunet.plans import read_json


@dataclass(frozen=True)
class Dataset:
    """Names of a network's channels and logits, and the activation that gives probabilities."""

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    activation: Activation

    @property
    def target(self) -> str:
        """The first class that is not background."""
        return self.classes[0 if self.activation == "sigmoid" else 1]


def read_dataset(path: Path) -> Dataset:
    """Read the names in a dataset.json.

    Raises
    ------
    SegxaiError
        If it cannot be read, or names no channels, or no labels besides the background.
    """
    content = read_json(path)
    try:
        channels = content.get("channel_names") or content["modality"]  # the older name
        named = [str(channels[key]) for key in sorted(channels, key=int)]
        labels = {str(name): _values(value) for name, value in content["labels"].items()}
        if not all(labels.values()):
            raise ValueError("a label without a value")
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise SegxaiError(
            f"{path} is not a dataset.json of nnU-Net v2 "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
    labels.pop("ignore", None)
    is_regions = any(len(values) > 1 for values in labels.values())
    classes = _regions(labels) if is_regions else _classes(labels)
    if len(classes) < 2 - is_regions or not named:
        raise SegxaiError(f"{path} names no channels, or no labels besides the background")
    return Dataset(_words(named), classes, "sigmoid" if is_regions else "softmax")


def _values(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, list) else (int(value),)


def _classes(labels: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the class of each logit: the labels, in the order of their values."""
    return tuple(sorted(labels, key=lambda name: labels[name][0]))


def _regions(labels: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the region of each logit, in the order of the file; the background has none."""
    return tuple(name for name, values in labels.items() if set(values) != {0})


def _words(names: Iterable[str]) -> tuple[str, ...]:
    """Make names that can be typed: lower case, words joined by "_", equal names numbered."""
    words = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "channel" for name in names]
    count = Counter(words)
    return tuple(
        word if count[word] == 1 else f"{word}_{words[:number].count(word) + 1}"
        for number, word in enumerate(words)
    )
