"""Checks of the record, and of the case that it embeds."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from segxai import Adapter, Grid, SlidingWindow, WholeImage
from tests.testing.checks import (
    CASE,
    INSTANCES,
    LAYER,
    LOADS,
    MIRRORS,
    RECORD,
    broken,
    raise_error,
    without,
)
from tests.toy.segxai_toy import TOY, bare_case, picture


def case_of(**changes):
    return replace(TOY, embedded_case=lambda: replace(bare_case(picture()), **changes))


def counting(**changes):
    return replace(TOY, criteria=replace(TOY.criteria, **changes))


def unchecked(record, **changes):
    """As outside of this test run, where no type is looked at."""
    changed = copy(record)
    vars(changed).update(changes)
    return changed


RECORDS = {
    "activation": (
        without(predict=unchecked(WholeImage(), activation="relu")),
        RECORD,
        "unknown activation 'relu'; known: sig",
    ),
    "divisor": (without(predict=WholeImage(divisor=0)), RECORD, "divisor 0: give 1 or more"),
    "inputs": (without(inputs=("image", "image")), RECORD, "files must be distinct names"),
    "overlap": (without(predict=SlidingWindow((8, 8, 8), overlap=1.0)), RECORD, "with overlap 1.0"),
    "request": (
        without(embedded_options={"sample": 3}),
        RECORD,
        "unknown option 'sample'",
    ),
    "samples": (without(embedded_options={"samples": 0}), RECORD, "samples=0: give a number"),
    "mirrors": (without(mirror_axes=(0, 3)), MIRRORS, "mirror_axes (0, 3): give distinct spatial"),
    "mirrors twice": (without(mirror_axes=(1, 1)), MIRRORS, "mirror_axes (1, 1): give distinct"),
    "volume": (counting(min_volume_mm3=1e5), INSTANCES, "no instance of class 'ball' is found"),
    "unknown target": (counting(class_index=2), RECORD, "no class 2; known: 0 to 1"),
    "channels": (without(channels=("a", "a")), RECORD, "channels must be distinct names"),
    "no channels": (without(channels=()), RECORD, "channels must be distinct names"),
    "classes": (
        without(classes=("ball", "ball")),
        RECORD,
        "classes must be distinct names, found ('ball', 'ball')",
    ),
    "layer": (without(layer="featurse"), LAYER, "unknown layer 'featurse'; known: active"),
    "network": (without(load_network=raise_error), LOADS, "KeyError: 'weights'"),
    "case": (without(embedded_case=raise_error), CASE, "KeyError: 'weights'"),
    "mended case": (
        without(embedded_case=lambda: Adapter.embedded_case()),
        CASE,
        "this plugin has no embedded case",
    ),
    "window": (
        without(predict=SlidingWindow((8, 8))),
        CASE,
        "a window of 2 axes (8, 8) does not fit",
    ),
    "image": (
        case_of(image=picture()[:1]),
        CASE,
        "shape (1, 20, 18, 16), expected 2 channels on the grid (20, 18, 16)",
    ),
    "names": (case_of(channels=("other", "bright")), CASE, "the adapter's are ('bright', 'other')"),
    "NaN": (case_of(image=picture() * np.float32(np.nan)), CASE, "NaN or infinite values"),
    "float64": (case_of(image=picture().astype(float)), CASE, "the image is float64, not float32"),
    "black": (case_of(black=(0.0,)), CASE, "black is (0.0,): give one number for each channel"),
    "black that is none": (case_of(black=(0.0, np.nan)), CASE, "black is (0.0, nan): give one"),
    "foreground": (
        case_of(foreground=np.zeros((20, 18, 16), bool)),
        CASE,
        "the foreground is empty",
    ),
    "source": (
        case_of(source_grid=Grid((20, 18, 16), np.diag([1.0, 0, 1, 1]))),
        CASE,
        "the affine of the source_grid has shape (4, 4) for 3 axes, or is singular",
    ),
    "no source": (case_of(domains_on_source=True), CASE, "on the source_grid, but there is none"),
    "affine": (
        case_of(grid=Grid((20, 18, 16), np.diag([1.0, 1, 0, 1]))),
        CASE,
        "the affine of the grid has shape (4, 4) for 3 axes, or is singular",
    ),
}


@pytest.mark.parametrize(("adapter", "promise", "words"), RECORDS.values(), ids=RECORDS)
def test_a_record_that_does_not_fit_is_caught(adapter, promise, words):
    wrong = broken(adapter)
    assert next(iter(wrong)) == promise
    assert words in wrong[promise]
