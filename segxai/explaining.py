"""The Python interface: explain one instance of any segmentation model in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from segxai.errors import SegxaiError, collecting
from segxai.geometry import AXES
from segxai.models.inspection import Trial, inspect
from segxai.models.trial_run import fitting_size
from segxai.run.device import find_device
from segxai.run.options import Options
from segxai.run.resolve import choose, resolve
from segxai.run.runs import Run, runs_of
from segxai.segment.failures import NetworkError
from segxai.segment.inference_mode import uncompiled
from segxai.segment.predictor import Predictor
from segxai.segment.weights import without_halves
from segxai.segment.windows import sliding_window, whole_image
from segxai.text import format_shape
from segxai.types import Attribution, Case, Instance


def explain(
    model: nn.Module,
    image: Tensor | np.ndarray,
    mask: Tensor | np.ndarray,
    *,
    class_index: int = 1,
    method: str = "smoothgrad",
    aggregator: str | None = None,
    samples: int | Literal["auto"] = 50,
    tolerance: float | None = None,
    antithetic: bool = False,
    noise: float = 0.05,
    noise_unit: str = "range",
    seed: int = 0,
    score: str = "logit",
    contrast: str | None = None,
    layer: str | None = None,
    layer_layout: str | None = None,
    window: Sequence[int] | None = None,
    overlap: float = 0.25,
    output: str | int | None = None,
    align_corners: bool = False,
    device: str | None = None,
    engine: str = "auto",
    batch: int | None = None,
    precision: str = "float32",
    row_tolerance: float | None = None,
    method_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Explain which input voxels made the model give these output voxels their class.

    Parameters
    ----------
    model : nn.Module
        Maps (1, channel, *grid) to logits (1, class, *grid); 1D, 2D or 3D. It is left
        unchanged.
    image : Tensor or ndarray of shape (channel, *grid)
        The image as the model takes it, normalised.
    mask : Tensor or ndarray of bool, of shape (*grid)
        The instance: the output voxels to explain.
    class_index : int
        Index of the class's logit; 0 for a model with a single logit.
    method, aggregator
        Names from `segxai methods`; the aggregator defaults to the method's own (signed_max).
    samples, tolerance, antithetic
        Number of noisy copies; "auto" adds copies until the standard error of every voxel is below
        the tolerance (0.03 if not given) times the map's peak. Antithetic copies come in pairs with
        opposite noise.
    noise, noise_unit, seed
        Level of the copies' noise relative to each channel's range over the whole image, what the
        level is relative to (see `segxai.methods.noise.noise_levels`), and the random seed.
    contrast : str, optional
        Explain a difference, by a method without rows: "border" for the score inside the
        instance's border minus that outside it, "class:0" for the score of the class minus that of
        class 0.
    layer, layer_layout : str, optional
        Layer for CAM methods; by default the last activation before the logits that a trial on the
        image finds sound. Where its output has its feature maps, if a trial cannot tell:
        "channels_first", "channels_last", "tokens", or "tokens:14,14" with their number along each
        axis.
    window, overlap
        Predict with a Gaussian-blended sliding window of this size, and explain that prediction;
        without it, the image goes through the model at once.
    output : str or int, optional
        Name or number of the tensor of logits, where the model returns several; see `logits_of`.
    align_corners : bool
        Whether coarse logits are interpolated with aligned corners.
    device : str, optional
        Where to compute; by default where the model's parameters are.
    engine, batch
        How rows are computed ("auto", "windowed" or "dense"), and the largest number computed at
        once. Neither changes a value beyond float noise. "lowrank" is an approximation.
    precision, row_tolerance
        In which the network computes ("float32", or "tf32" on a GPU); with engine "lowrank" the
        largest error of a row, relative to its peak (0.003 if not given).
    method_options : mapping, optional
        Options of the method's own, see `segxai methods NAME`.

    Returns
    -------
    DataArray of dims (channel, *grid); CAM methods: (*grid)
        Signed, in score per unit of the image. `attrs` hold the settings and facts about the map,
        and in "warnings" the texts of all that were raised.
        With noisy copies, the coordinate `standard_error` holds the standard error of the map.

    Raises
    ------
    SegxaiError
        If shapes do not fit, the mask is empty, or a name is not known.

    Warns
    -----
    SegxaiWarning
        About what was chosen for you, and what is in doubt.

    Examples
    --------
    >>> import torch, segxai
    >>> model = torch.nn.Conv2d(1, 2, kernel_size=3, padding=1)
    >>> image, mask = torch.rand(1, 16, 16), torch.zeros(16, 16, dtype=torch.bool)
    >>> mask[4:8, 4:8] = True
    >>> segxai.explain(model, image, mask, samples=2).dims
    ('channel', 'y', 'x')
    """
    model = uncompiled(model)
    home = next(model.parameters(), torch.empty(0))
    options = Options.of(
        method=method,
        aggregator=aggregator,
        samples=samples,
        tolerance=tolerance,
        antithetic=antithetic,
        noise=noise,
        noise_unit=noise_unit,
        seed=seed,
        layer=layer,
        layer_layout=layer_layout,
        score=score,
        contrast=contrast,
        method_options=method_options,
        device=device or str(home.device),
        engine=engine,
        batch=batch,
        precision=precision,
        row_tolerance=row_tolerance,
    )
    chosen, place = choose(options), find_device(options.compute.device)
    kind = np.float64 if home.dtype == torch.float64 else np.float32
    pixels, domain = _as_array(image).astype(kind, copy=False), _as_array(mask)
    _check(pixels, domain)
    shape = pixels.shape[1:]
    layout = whole_image(shape) if window is None else sliding_window(shape, window, overlap)
    instance = Instance.from_mask(domain, class_index=class_index)
    tensor = torch.from_numpy(pixels)[None].to(place)
    try:
        with collecting() as warnings, without_halves(model.to(place)) as network:
            predictor = Predictor(network, layout, output=output, align_corners=align_corners)
            inspect(predictor, tensor)
            options = resolve(options, chosen, predictor, pixels, instance, layer)
            (run,) = runs_of(options, chosen, Case.of_array(pixels))
            context = replace(run.context, instances=(instance,))
            attribution = chosen.attribute(predictor, tensor, instance, run.options, context)
    except NetworkError as error:
        trial = Trial(model, output)
        raise _of_other_size(error, trial, len(pixels), layout.windows[0].size) from error
    finally:
        model.to(home.device)
    more = {"output": predictor.output, "warnings": warnings}
    return _as_data_array(attribution, shape, run, more)


def _of_other_size(
    error: NetworkError, model: nn.Module, channels: int, size: Sequence[int]
) -> SegxaiError:
    """Add to an error which sizes the network takes, if that is its reason."""
    if not error.is_of_size:
        return error
    try:
        found = fitting_size(model, [f"channel {number}" for number in range(channels)], size)
    except SegxaiError:
        found = None
    if found is None or found.size == tuple(size):
        return error
    return SegxaiError(
        f"{error.text}; trial runs show that it takes multiples of {found.divisor}, such as "
        f"{format_shape(found.size)}"
    )


def _as_array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check(pixels: np.ndarray, domain: np.ndarray) -> None:
    """Check that the shapes and values can be explained."""
    axes = pixels.ndim - 1
    if axes not in AXES:
        raise SegxaiError(
            f"an image of shape {pixels.shape}: give (channel, *spatial) with 1 to 3 spatial axes, "
            "without a batch axis"
        )
    if domain.shape != pixels.shape[1:] or domain.dtype != bool:
        raise SegxaiError(
            f"a mask of shape {domain.shape} and type {domain.dtype} for an image of shape "
            f"{pixels.shape}: give booleans of shape {pixels.shape[1:]}"
        )
    if not domain.any():
        raise SegxaiError("the mask is empty: there is no voxel to explain")
    if not np.isfinite(pixels).all():
        raise SegxaiError("the image has NaN or infinite values: fix them first")


def _as_data_array(
    attribution: Attribution, shape: tuple[int, ...], run: Run, more: Mapping[str, Any]
) -> xr.DataArray:
    axes = AXES[len(shape)]
    values, score = attribution.on_grid(shape), run.options.only_score
    dims = axes if values.ndim == len(shape) else ("channel", *axes)
    coords = {}
    if attribution.standard_error is not None:
        error = replace(attribution, values=attribution.standard_error).on_grid(shape)
        coords["standard_error"] = (dims, error)
    attrs: dict[str, Any] = {
        "method": run.options.method,
        "aggregator": run.context.aggregator.name if run.context.aggregator else "none",
        "score": score,
        "contrast": run.options.contrast,
        "units": attribution.unit.replace("score", score).replace("input", "input unit"),
        "seed": run.options.seed,
        "antithetic": run.options.noise.antithetic,
        "noise_levels": list(run.context.noise_levels),
        **run.options.method_options,
        **attribution.facts,
        **more,
    }
    kept = {name: _plain(value) for name, value in attrs.items() if value is not None}
    return xr.DataArray(values, dims=dims, coords=coords, attrs=kept, name="map")


def _plain(value: Any) -> Any:
    """Return a value as a netCDF file can hold it: it takes no booleans, and files by their name.

    None is left out before: there is no word for it.
    """
    if isinstance(value, Path):
        return value.name
    return int(value) if isinstance(value, bool) else value
