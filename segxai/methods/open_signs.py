"""Open signs: entries of a signed max whose sign is within the error of its rows."""

from typing import Any

import torch

from segxai.methods.aggregators import Extremes
from segxai.methods.sampling_error import Folds


def open_signs(state: Any, row_error: float) -> dict[str, int | float]:
    """Count the entries of a signed max that approximate rows may have turned over.

    A row is off by at most `row_error` times its peak, and no row's peak is above the map's. Where
    the largest and the smallest entry are closer in magnitude than two such errors, either can be
    the larger one. Entries smaller than one such error are not counted: turned over, they are off
    by about what any entry may be off by.

    Parameters
    ----------
    state : Any
        What an aggregator holds after all rows.
    row_error : float
        The largest error of a row, relative to its peak.

    Returns
    -------
    dict
        "open_signs", the number of these entries, over all channels, and "open_sign_size", the
        magnitude of the largest, relative to the map's peak. Empty for any other aggregator.
    """
    if isinstance(state, Folds):
        return open_signs(state.whole, row_error)
    if not isinstance(state, Extremes):
        return {}
    largest, smallest = state.largest, -state.smallest
    size = torch.maximum(largest, smallest)
    error = row_error * size.max()
    is_open = ((largest - smallest).abs() <= 2 * error) & (torch.minimum(largest, smallest) > error)
    highest = float((size[is_open] / size.max()).max()) if is_open.any() else 0.0
    return {"open_signs": int(is_open.sum()), "open_sign_size": highest}
