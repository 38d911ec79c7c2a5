"""The reference: which labels of an expert's mask are objects of the class that is explained."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from segxai.errors import SegxaiError, option, warn
from segxai.types import Activation

Reference = Bool[np.ndarray, "*grid"] | Int[np.ndarray, "*grid"]


def of_class(
    reference: Reference | None,
    classes: Sequence[str],
    class_index: int | None,
    *,
    activation: Activation = "softmax",
    label: int | Literal["all"] | None = None,
) -> Bool[np.ndarray, "*grid"] | None:
    """Find where the reference shows an object of a class.

    Parameters
    ----------
    reference : ndarray of shape (*grid), optional
        Labels, 0 where there is no object; or booleans, which say where the class is.
    classes : sequence of str
        Names of the model's classes.
    class_index : int, optional
        The class; None for any class.
    activation : {"softmax", "sigmoid"}
        Labels are the numbers of classes that exclude each other: under a softmax.
    label : int or "all", optional
        The label to take. If not given, a single label is taken, and of several the number of the
        class where all of them can be numbers of classes.

    Raises
    ------
    SegxaiError
        If the label is not in the reference, or several are and none is known to be the class's.

    Warns
    -----
    SegxaiWarning
        If one of several labels is taken, or a single one that is the number of another class.
    """
    if reference is None and label is not None:
        raise SegxaiError(
            f"{option('reference_label', label)} belongs to {option('reference')}: give that, too"
        )
    if reference is None:
        return None
    known = [int(one) for one in np.unique(reference) if one]
    listed = ", ".join(map(str, known))
    if label == "all" or class_index is None:
        return reference != 0
    if label is not None and label not in known:
        raise SegxaiError(
            f"{option('reference_label', label)}: the reference has the labels {listed}"
        )
    can_be = reference.dtype != bool and activation == "softmax" and len(classes) > 2
    are_classes = can_be and max(known, default=0) < len(classes)
    if label is None:
        label = _taken(known, classes, class_index, are_classes=are_classes)
    return reference != 0 if label is None else reference == label


def _taken(
    known: Sequence[int], classes: Sequence[str], class_index: int, *, are_classes: bool
) -> int | None:
    """Choose the label of the class, and say so; None for the only one that there is."""
    listed, name = ", ".join(map(str, known)), classes[class_index]
    if len(known) > 1 and not (are_classes and class_index):
        raise SegxaiError(
            f"the reference has the labels {listed}, and which of them is {name} is not known: "
            f"give {option('reference_label')} with one of them, or with all"
        )
    if len(known) > 1:
        warn(
            f"of the labels {listed} in the reference, {class_index} is taken, the number of the "
            f"class {name}; for another, give {option('reference_label')}"
        )
        return class_index
    if are_classes and known and known[0] != class_index:
        warn(
            f"the only label of the reference, {listed}, is taken as {name}, but is the number of "
            f"the class {classes[known[0]]}: if it means that, leave the reference out; else give "
            f"{option('reference_label')} to confirm it"
        )
    return None
