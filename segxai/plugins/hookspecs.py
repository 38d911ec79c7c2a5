"""The hooks of segxai: what a plugin may implement, in the order in which a run calls them.

An entry point in the group named below leads to a module or an object with the implementation,
marked with `segxai.hookimpl`; the entry point's name is what the command line takes. An
implementation may leave out arguments that it does not need.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from segxai.methods.method import Aggregator, Method
    from segxai.plugins.adapter import Adapter

hookspec = pluggy.HookspecMarker("segxai")
hookimpl = pluggy.HookimplMarker("segxai")


@hookspec(firstresult=True)
def segxai_adapter(name: str, checkpoint: Path | None, weights_key: str | None) -> "Adapter | None":
    """Return the adapter of this name: how to load a model and a case, and how it predicts.

    `checkpoint` is a user's file or folder of weights, or None for the plugin's own, and
    `weights_key` the set of weights to take from it, if it holds several (see `unwrap`).
    Entry-point group `segxai.adapters`. Stops at the first result that is not None. Must be cheap:
    weights and images are loaded by the adapter's own functions, later.
    """


@hookspec(firstresult=True)
def segxai_method(name: str) -> "Method | None":
    """Return the attribution method of this name.

    Entry-point group `segxai.methods`. Stops at the first result that is not None.
    """


@hookspec(firstresult=True)
def segxai_aggregator(name: str) -> "Aggregator | None":
    """Return the aggregator of this name: a fold over the rows of an instance.

    Entry-point group `segxai.aggregators`. Stops at the first result that is not None.
    """
