"""The request: what a user asks for, checked before anything is loaded."""

from dataclasses import dataclass
from typing import Literal

from segxai.errors import SegxaiError


@dataclass(frozen=True)
class Request:
    """Everything that a user asks of a run, apart from the images and the model.

    Parameters
    ----------
    method : str
        One of the methods that `segxai methods` lists.
    aggregator : str, optional
        The method's own default if not given.
    samples : int or "auto"
        Number of noisy copies; "auto" adds copies until the standard error is within the tolerance.
    tolerance : float, optional
        With samples "auto": the largest standard error, relative to the map's peak. The method's
        own if not given.
    antithetic : bool
        Whether noisy copies come in pairs with opposite noise.
    noise, noise_unit, seed
        The noise of the copies, and what 1 means in it (see `noise_levels`).
    layer : str, optional
        Layer of CAM methods; the adapter's default if not given.
    score : str
        "logit", "margin" or "probability".
    class_name, class_index, threshold, min_volume_mm3
        What counts as an instance; the adapter's defaults if not given.
    instances : tuple of int, optional
        Labels to explain; all if not given.
    spheres : tuple of tuple of float
        Balls to explain instead of the predicted instances: centre and radius, in mm.
    split : bool
        Whether a mask of instances is cut into its connected components.
    rows : int, optional
        Largest number of rows from which a domain is explained; the map is then an estimate.
    crop_mm : float, optional
        Cut maps at this distance from the domain.
    tta : bool
        Whether logits are the mean over mirror images of the input.
    device, engine, batch, precision
        How the run is computed. Values change by no more than float noise, except that engine
        "lowrank" and a precision other than "float32" are approximations.

    Raises
    ------
    SegxaiError
        If a number makes no sense.
    """

    method: str = "smoothgrad"
    aggregator: str | None = None
    samples: int | Literal["auto"] = 50
    tolerance: float | None = None
    antithetic: bool = False
    noise: float = 0.05
    noise_unit: str = "range"
    seed: int = 0
    layer: str | None = None
    score: str = "logit"
    class_name: str | None = None
    class_index: int | None = None
    threshold: float | None = None
    min_volume_mm3: float | None = None
    instances: tuple[int, ...] | None = None
    spheres: tuple[tuple[float, ...], ...] = ()
    split: bool = False
    rows: int | None = None
    crop_mm: float | None = None
    tta: bool = False
    device: str = "auto"
    engine: str = "auto"
    batch: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Check that the numbers make sense."""
        self._check_samples()
        if self.batch is not None:
            _at_least("batch", self.batch, 1)
        _at_least("noise", self.noise, 0)
        _at_least("seed", self.seed, 0)
        if self.rows is not None:
            _at_least("rows", self.rows, 1)
        if self.crop_mm is not None:
            _at_least("crop", self.crop_mm, 0)

    def _check_samples(self) -> None:
        if self.samples != "auto":
            _at_least("samples", self.samples, 1)
            if self.antithetic and self.samples % 2:
                raise SegxaiError(
                    f"--samples {self.samples} --antithetic: copies come in pairs; give an even "
                    "number"
                )
        if self.samples == "auto" and self.engine == "lowrank":
            raise SegxaiError(
                "--samples auto and --engine lowrank each use --tolerance in their own way: give a "
                "number of samples, or another engine"
            )
        if self.tolerance is None:
            return
        if self.samples != "auto" and self.engine != "lowrank":
            raise SegxaiError(
                f"--tolerance {self.tolerance:g} needs --samples auto or --engine lowrank: give "
                "one of them, too"
            )
        if not 0 < self.tolerance < float("inf"):
            raise SegxaiError(f"--tolerance {self.tolerance}: give a number above 0, such as 0.03")


def _at_least(name: str, value: float, smallest: int) -> None:
    if not smallest <= value < float("inf"):  # NaN fails, too
        raise SegxaiError(f"--{name} {value}: give a number of {smallest} or more")
