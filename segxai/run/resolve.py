"""From what is asked to what is done: names are looked up, and defaults are filled in."""

from dataclasses import asdict, replace

import numpy as np
import torch
from jaxtyping import Float

from segxai.errors import SegxaiError, option, unknown_name
from segxai.methods.layers import default_layer_of, find_layer
from segxai.methods.method import Method
from segxai.methods.noise import stop_at
from segxai.methods.own_options import own_options
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.lowrank import LowRank
from segxai.rows.scores import find_score
from segxai.run.options import Options, Predicted, Target
from segxai.segment.predictor import Predictor
from segxai.types import InstanceCriteria


def choose(options: Options) -> Method:
    """Load the method of some options; cheap, and done before any image is read.

    Raises
    ------
    SegxaiError
        If a name is not known, or an option does not fit the method.
    """
    asked = options.method
    method = load_method(asked.method)
    for score in asked.score:
        find_score(score)
    for name in asked.aggregator:
        load_aggregator(name)
    own_options(method, asked.method_options)
    if asked.aggregator and not method.aggregator:
        raise SegxaiError(
            f"method {method.name!r} has no rows to aggregate: leave out {option('aggregator')}"
        )
    if asked.layer and not method.needs_layer:
        raise SegxaiError(f"method {method.name!r} uses no layer: leave out {option('layer')}")
    if not method.smooths and (asked.noise.antithetic or asked.noise.samples == "auto"):
        raise SegxaiError(
            f"method {method.name!r} makes no noisy copies: leave out {option('antithetic')} and "
            f"{option('samples', 'auto')}"
        )
    is_chosen = options.target.labels is not None or options.target.instances != Predicted()
    if method.scope == "class" and is_chosen:
        raise SegxaiError(
            f"method {method.name!r} explains the whole class at once: leave out "
            f"{option('instances')}"
        )
    return method


def resolve(
    options: Options,
    method: Method,
    predictor: Predictor,
    image: Float[np.ndarray, "channel *grid"],
    layer: str | None,
) -> Options:
    """Fill in what was left to a default of the method, the model or the engine."""
    if method.needs_layer and layer is None:
        layer = default_layer_of(predictor, torch.from_numpy(image)[None])
    if method.needs_layer and layer is not None:
        find_layer(predictor.network, layer)
    own = own_options(method, options.method.method_options)
    resolved = replace(
        options.method,
        aggregator=options.method.aggregator or ((method.aggregator,) if method.aggregator else ()),
        layer=layer if method.needs_layer else None,
        method_options=asdict(own) if own is not None else {},
        noise=replace(options.method.noise, tolerance=stop_at(options.method.noise)),
    )
    numerics = options.numerics
    if options.compute.engine == "lowrank" and numerics.row_tolerance is None:
        numerics = replace(numerics, row_tolerance=LowRank().tolerance)
    return replace(options, method=resolved, numerics=numerics)


def criteria_for(adapter: Adapter, target: Target) -> InstanceCriteria:
    """Return what counts as an instance: the adapter's choice where the user makes none.

    Raises
    ------
    SegxaiError
        If the class is not known.
    """
    given = {
        name: getattr(target, name)
        for name in ("threshold", "min_volume_mm3", "connectivity")
        if getattr(target, name) is not None
    }
    return replace(adapter.criteria, class_index=_class_index(adapter, target), **given)


def _class_index(adapter: Adapter, target: Target) -> int | None:
    """Find the class that is explained, from its name or its number."""
    if target.class_name is not None:
        if target.class_name not in adapter.classes:
            raise unknown_name("class", target.class_name, adapter.classes)
        return adapter.classes.index(target.class_name)
    if target.class_index is None:
        return adapter.criteria.class_index
    if not 0 <= target.class_index < len(adapter.classes):
        raise SegxaiError(f"no class {target.class_index}; known: 0 to {len(adapter.classes) - 1}")
    return target.class_index
