"""From what is asked to what is done: names are looked up, and defaults are filled in."""

from dataclasses import asdict, replace

import numpy as np
import torch
from jaxtyping import Float

from segxai.errors import SegxaiError, option, unknown_name
from segxai.methods.default_layer import choose_layer
from segxai.methods.layer_layout import LayerLayout
from segxai.methods.layers import layout_of
from segxai.methods.method import Method
from segxai.methods.noise import stop_at
from segxai.methods.own_options import own_options
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_aggregator, load_method
from segxai.rows.lowrank import LowRank
from segxai.rows.scores import find_score
from segxai.run.contrast import check_contrast
from segxai.run.options import Options, Predicted, Target
from segxai.segment.predictor import Predictor
from segxai.types import Instance, InstanceCriteria


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
    check_contrast(asked.contrast, method)
    if asked.layer_layout:
        LayerLayout.of(asked.layer_layout)
    if asked.aggregator and not method.aggregator:
        raise SegxaiError(
            f"method {method.name!r} has no rows to aggregate: leave out {option('aggregator')}"
        )
    for name in ("layer", "layer_layout"):
        if getattr(asked, name) and not method.needs_layer:
            raise SegxaiError(f"method {method.name!r} uses no layer: leave out {option(name)}")
    if method.needs_layer and options.target.tta:
        raise SegxaiError(
            f"method {method.name!r} looks at one pass through a layer: leave out {option('tta')}"
        )
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
    if method.scope == "class" and options.target.controls:
        raise SegxaiError(
            f"method {method.name!r} explains the whole class at once: leave out "
            f"{option('controls')}"
        )
    return method


def resolve(
    options: Options,
    method: Method,
    predictor: Predictor,
    image: Float[np.ndarray, "channel *grid"],
    explained: Instance | int,
    layer: str | None,
) -> Options:
    """Fill in what was left to a default of the method, the model or the engine.

    Parameters
    ----------
    explained : Instance or int
        What is explained, or the class of it where instances are not known yet.
    layer : str, optional
        The layer that the user or the author of the model names.
    """
    layout = None
    if method.needs_layer:
        tensor = torch.from_numpy(image)[None]
        layer = layer or choose_layer(predictor, tensor, explained)
        layout = str(layout_of(predictor, tensor, layer, options.method.layer_layout))
    own = own_options(method, options.method.method_options)
    resolved = replace(
        options.method,
        aggregator=options.method.aggregator or ((method.aggregator,) if method.aggregator else ()),
        layer=layer if method.needs_layer else None,
        layer_layout=layout,
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
    index = _class_index(adapter, target)
    return replace(adapter.criteria, class_index=index, match=target.match, **given)


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
