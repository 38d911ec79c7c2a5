"""Records: the provenance and the facts in a result, JSON whose types are checked when read.

A pattern is a type, a value, a list `[pattern]`, a mapping of names to patterns, or a tuple of
alternatives. A name that ends in "?" may be missing; names that a pattern does not list are free.
"""

import json
from collections.abc import Mapping
from typing import Any

from segxai.store.refusal import DamageError

LARGEST_INTEGER = 2**63
MOST_LEVELS = 20

Number = (float, int)

SOURCE = {"role": str, "name": str, "sha256": str}
WEIGHTS = ({"name": str, "sha256": str, "key?": str}, None)
INSTANCES = (
    {"origin": "predicted"},
    {"origin": "balls", "balls": [[Number]]},
    {"origin": "mask", "name": str, "sha256": str, "split": bool},
    {"origin": "result", "name": str, "sha256": str},
)
CASE_RECORD: dict[str, Any] = {
    "plugin": {"name": str, "options?": {}},
    "weights": WEIGHTS,
    "folds?": [WEIGHTS],
    "case": {"name": str, "patient?": str, "session?": str, "channels": [str], "sources": [SOURCE]},
    "target": {
        "class": (str, None),
        "class_index": (int, None),
        "threshold": (*Number, None),
        "min_volume_mm3": Number,
        "connectivity": int,
        "match?": str,
        "controls?": [str],
        "controls_seed?": int,
        "instances": INSTANCES,
        "reference_label?": (int, "all"),
        "tta?": [int],
    },
    "output?": str,
    "notes?": [str],
    "matches?": {},
}
RUN_RECORD: dict[str, Any] = {
    "method": str,
    "aggregator": (str, None),
    "score": str,
    "contrast?": str,
    "layer": (str, None),
    "layer_layout?": str,
    "rows": (int, None),
    "seed": int,
    "method_options": {},
    "samples?": (int, "auto"),
    "tolerance?": (*Number, None),
    "noise?": Number,
    "noise_unit?": str,
    "antithetic?": bool,
    "noise_levels?": [Number],
    "numerics": {"precision": str, "row_tolerance": (*Number, None)},
    "crop_mm": (*Number, None),
    "labels": ([int], "all"),
    "compute": {"device": str, "engine": str, "batch": (int, None)},
    "started": str,
    "warnings?": [str],
    "resumed?": [{}],
}
FACTS: dict[str, Any] = {
    "estimate": bool,
    "rows?": int,
    "samples?": int,
    "domain_voxels?": int,
    "within_tolerance?": bool,
    "score_deviation?": (*Number, None),
    "peak_error?": (*Number, None),
    "map_error?": (*Number, None),
    "map_error_l2?": (*Number, None),
    "energy_left_out?": Number,
    "rank?": int,
    "row_error?": Number,
    "open_signs?": int,
    "open_sign_size?": Number,
    "precision?": str,
    "precision_error?": Number,
    "precision_rows?": int,
    "warnings?": [str],
}


def parsed(text: Any, where: str) -> dict[str, Any]:
    """Read a record from its JSON.

    Raises
    ------
    DamageError
        If it is none.
    """
    try:
        record = json.loads(text)
        depth = _depth(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise DamageError(f"the record of {where} is not JSON") from error
    if not isinstance(record, dict) or depth > MOST_LEVELS:
        raise DamageError(f"the record of {where} is not a table of facts")
    return record


def parsed_case(text: Any) -> dict[str, Any]:
    """Read the provenance of a case as it is stored, and check its types; names may be missing.

    Raises
    ------
    DamageError
        If it is no such record.
    """
    record = parsed(text, "the case")
    check_record(record, CASE_RECORD, "the case", whole=False)
    return record


def check_record(
    record: Mapping[str, Any], pattern: Mapping[str, Any], where: str, *, whole: bool
) -> None:
    """Check the types in a record.

    Parameters
    ----------
    whole : bool
        Whether names may not be missing.

    Raises
    ------
    DamageError
        If a value has another type, or is missing; its name is told.
    """
    wrong = _first_wrong(record, pattern, whole)
    if wrong is not None:
        raise DamageError(f"the record of {where} has no usable {wrong or 'content'!r}")


def _first_wrong(value: Any, pattern: Any, whole: bool) -> str | None:
    """Name the first value that does not fit; "" for the value itself, None if all fits."""
    if isinstance(pattern, tuple):
        fits = any(_first_wrong(value, one, whole) is None for one in pattern)
        return None if fits else ""
    if isinstance(pattern, list):
        fits = isinstance(value, list) and all(
            _first_wrong(one, pattern[0], whole) is None for one in value
        )
        return None if fits else ""
    if isinstance(pattern, Mapping):
        return _first_wrong_name(value, pattern, whole)
    return None if _fits(value, pattern) else ""


def _first_wrong_name(value: Any, pattern: Mapping[str, Any], whole: bool) -> str | None:
    if not isinstance(value, Mapping):
        return ""
    for marked, inner in pattern.items():
        name = marked.removesuffix("?")
        if name not in value:
            if whole and name == marked:
                return name
            continue
        wrong = _first_wrong(value[name], inner, whole)
        if wrong is not None:
            return f"{name} {wrong}".strip()
    return None


def _fits(value: Any, pattern: Any) -> bool:
    if not isinstance(pattern, type):
        return type(value) is type(pattern) and bool(value == pattern)
    if type(value) is not pattern:  # a bool is no int here
        return False
    return not isinstance(value, int) or abs(value) < LARGEST_INTEGER


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
