"""The request: what a user asks for, checked before anything is loaded."""

from dataclasses import dataclass

from segxai.errors import SegxaiError


@dataclass(frozen=True)
class Request:
    """All that is asked of a run, apart from the images and the model.

    Parameters
    ----------
    method : str
        As `segxai methods` lists them.
    aggregator : str, optional
        The method's own default if not given.
    samples, noise, noise_unit, seed
        Noisy copies, their noise, and what 1 means in it (see `noise_levels`).
    layer : str, optional
        Of CAM methods; the adapter's default if not given.
    score : str
        "logit", "margin" or "probability".
    class_name, threshold, min_volume_mm3
        What counts as an instance; the adapter's defaults if not given.
    instances : tuple of int, optional
        Labels to explain; all if not given.
    split : bool
        Whether a mask of instances is cut into its connected components.
    rows : int, optional
        Explain a domain from at most so many of its rows: an estimate.
    crop_mm : float, optional
        Cut maps at this distance from the domain.
    device, engine, batch
        How it is computed; changes no value beyond float noise.

    Raises
    ------
    SegxaiError
        If a number makes no sense.
    """

    method: str = "smoothgrad"
    aggregator: str | None = None
    samples: int = 50
    noise: float = 0.05
    noise_unit: str = "range"
    seed: int = 0
    layer: str | None = None
    score: str = "logit"
    class_name: str | None = None
    threshold: float | None = None
    min_volume_mm3: float | None = None
    instances: tuple[int, ...] | None = None
    split: bool = False
    rows: int | None = None
    crop_mm: float | None = None
    device: str = "auto"
    engine: str = "auto"
    batch: int = 16

    def __post_init__(self) -> None:
        _at_least("samples", self.samples, 1)
        _at_least("batch", self.batch, 1)
        _at_least("noise", self.noise, 0)
        _at_least("seed", self.seed, 0)
        if self.rows is not None:
            _at_least("rows", self.rows, 1)
        if self.crop_mm is not None:
            _at_least("crop", self.crop_mm, 0)


def _at_least(name: str, value: float, smallest: int) -> None:
    if not smallest <= value < float("inf"):  # NaN fails, too
        raise SegxaiError(f"--{name} {value}: give a number of {smallest} or more")
