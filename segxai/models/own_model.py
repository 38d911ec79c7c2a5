"""Your own models: adapters built from what a user says about a model without a plugin."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from segxai.errors import SegxaiError, SegxaiWarning, collecting, option
from segxai.load.normalisation import find_normalisation
from segxai.load.reader import LoadCase, Reader, loader
from segxai.models.bundle import Bundle, load_bundle
from segxai.models.bundle_reader import BundleReader
from segxai.models.factory import import_network, origin_of
from segxai.models.program import is_program, load_program
from segxai.models.wrap import Said, distinct, make_adapter
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import check_key
from segxai.segment.prediction import WholeImage
from segxai.segment.weights import load_weights, tensors_sha256
from segxai.types import Activation

FilesOf = Callable[[tuple[str, ...]], Mapping[str, Path]]
RECORDED_FIELDS = (
    "classes",
    "window",
    "overlap",
    "activation",
    "normalise",
    "spacing_mm",
    "output",
    "align_corners",
    "divisor",
)


@dataclass(frozen=True)
class OwnModel:
    """What a user says about a model without a plugin; None or empty where nothing is said.

    Parameters
    ----------
    model : str
        `package.module:factory`, or the file of a program; "" for a bundle.
    bundle : Path, optional
        The folder of a MONAI bundle.
    trust : bool
        Whether the user vouches for files whose loading can run code.
    weights_key : str, optional
        The set of weights to take from a file that holds several; see `unwrap`.
    channels, classes : tuple of str
        Names, in the network's order.
    window, overlap, activation, normalise, spacing_mm, output, align_corners
        As `segxai.wrap` takes them.
    divisor : int, optional
        Divisor of the sizes of a whole image; trial runs find it.
    """

    model: str = ""
    bundle: Path | None = None
    trust: bool = False
    weights_key: str | None = None
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    window: tuple[int, ...] | None = None
    overlap: float | None = None
    activation: Activation | None = None
    normalise: str | None = None
    spacing_mm: float | None = None
    output: str | None = None
    align_corners: bool | None = None
    divisor: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A network, and what its files say about it.

    Parameters
    ----------
    name : str
        Name for tables and file names.
    origin : mapping
        Where the model comes from, for the record.
    weights : Path, optional
        The file of its weights.
    said : OwnModel
        What the files say without the user.
    load_case : callable, optional
        Maps the names of the channels to the model's own way to read a case.
    """

    network: nn.Module
    name: str
    origin: Mapping[str, Any]
    weights: Path | None = None
    said: OwnModel = field(default_factory=OwnModel)
    notes: tuple[str, ...] = ()
    load_case: Callable[[tuple[str, ...]], LoadCase] | None = None


def adapter_for(
    own: OwnModel, checkpoint: Path | None = None, files_of: FilesOf | None = None
) -> Adapter:
    """Build the adapter of your own model.

    Parameters
    ----------
    checkpoint : Path, optional
        Tensors to put into the network.
    files_of : callable, optional
        Maps the names of the channels to the files of a case. Where there is no window, the shape
        of its image is tried.

    Raises
    ------
    SegxaiError
        If the model cannot be loaded, or what is said about it is wrong or not enough.
    """
    with collecting() as warned, warnings.catch_warnings():
        warnings.simplefilter("ignore", SegxaiWarning)  # shown and kept as notes
        loaded = _load(own, checkpoint)
    said = _together(own, loaded.said)
    if not said.channels:
        raise SegxaiError(
            f"the names of the input channels of {loaded.name} are not known; give them in the "
            "network's order, such as --channels flair,t1"
        )
    channels = distinct(said.channels, "channel")
    load_case = _load_case(loaded, said, channels)
    files = files_of(channels) if files_of else {}
    shape = None
    if files and said.window is None and said.divisor is None:
        shape = load_case(files).grid.shape
    adapter = make_adapter(loaded.network, channels, load_case, _said(said), shape=shape)
    return replace(
        adapter,
        name=loaded.name,
        inputs=() if tuple(files) in ((), channels) else tuple(files),
        weights=loaded.weights,
        weights_key=own.weights_key,
        notes=(*loaded.notes, *warned, *adapter.notes),
        origin={**loaded.origin, "options": _record(said, adapter)},
    )


def is_own(provenance: Mapping[str, Any]) -> bool:
    """Return whether a result's model came without a plugin."""
    return "options" in provenance["plugin"] or "tensors_sha256" in provenance["plugin"]


def adapter_again(
    provenance: Mapping[str, Any], own: OwnModel, checkpoint: Path | None = None
) -> Adapter:
    """Rebuild the adapter of a result's model: the result records all but the model itself.

    Parameters
    ----------
    provenance : mapping
        Provenance of the result's case.
    own : OwnModel
        Where the model is now. What a result names is imported only if the user names it, too.

    Raises
    ------
    SegxaiError
        If the model is not given, or cannot be given because it was made in Python.
    """
    recorded = provenance["plugin"]
    if "options" not in recorded:
        raise SegxaiError(
            f"the run's model was a network in Python, {recorded['name']}: repeat the run in Python"
        )
    if not own.model and own.bundle is None:
        raise SegxaiError(
            f"the run's model was {recorded['name']}, without a plugin; say where it is, with "
            "--model NAME (or --bundle DIR), as in the run"
        )
    kept = {name: one for name, one in recorded["options"].items() if name in RECORDED_FIELDS}
    lists = {name: tuple(one) for name, one in kept.items() if isinstance(one, list)}
    known = OwnModel(**{**kept, **lists})
    channels = tuple(provenance["case"]["channels"])
    where = {name: getattr(own, name) for name in ("model", "bundle", "trust", "weights_key")}
    said = replace(known, **where, channels=channels)
    return replace(adapter_for(said, checkpoint), notes=tuple(provenance.get("notes", ())))


def _record(said: OwnModel, adapter: Adapter) -> dict[str, Any]:
    """Collect what a rerun must know, as JSON holds it."""
    divisor = adapter.predict.divisor if isinstance(adapter.predict, WholeImage) else 1
    found = replace(said, classes=adapter.classes, divisor=divisor)
    values = {name: getattr(found, name) for name in RECORDED_FIELDS}
    lists = {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}
    return {name: one for name, one in lists.items() if one is not None}


def _together(own: OwnModel, known: OwnModel) -> OwnModel:
    """Merge what the user says with what is known; the user takes precedence."""
    given = {name: one for name, one in vars(own).items() if one is not None and one != ()}
    return replace(known, **given)


def _said(said: OwnModel) -> Said:
    return Said(
        classes=said.classes or None,
        window=said.window,
        overlap=0.25 if said.overlap is None else said.overlap,
        activation=said.activation or "softmax",
        output=said.output,
        align_corners=bool(said.align_corners),
        divisor=said.divisor,
    )


def _load_case(loaded: Loaded, said: OwnModel, channels: tuple[str, ...]) -> LoadCase:
    if loaded.load_case is not None and said.normalise is None and said.spacing_mm is None:
        return loaded.load_case(channels)
    normalisation = find_normalisation(said.normalise or "none", len(channels))
    return loader(Reader(channels, normalisation, said.spacing_mm).read)


def _load(own: OwnModel, checkpoint: Path | None) -> Loaded:
    if own.bundle is not None:
        return _from_bundle(own, own.bundle, checkpoint)
    if is_program(own.model):
        for name, given in {"checkpoint": checkpoint, "weights_key": own.weights_key}.items():
            if given is not None:
                raise SegxaiError(
                    f"{own.model} is a program that contains its weights: leave out {option(name)}"
                )
        return _from_program(own, Path(own.model))
    if own.trust:
        raise SegxaiError("--trust is for files: what --model imports is your own code anyway")
    return _from_factory(own.model, checkpoint, own.weights_key)


def _from_factory(model: str, checkpoint: Path | None, weights_key: str | None) -> Loaded:
    check_key(weights_key, checkpoint)
    network = import_network(model).eval()
    origin, notes = {"name": model, **origin_of(model)}, tuple[str, ...]()
    if checkpoint is None:
        # There is no file whose sha256 could tell one set of weights from another.
        origin["tensors_sha256"] = tensors_sha256(network)
        notes = (f"no --checkpoint: the weights are those that {model} makes",)
    else:
        load_weights(network, checkpoint, model, key=weights_key)
    return Loaded(network, model.rpartition(":")[2], origin, checkpoint, notes=notes)


def _from_program(own: OwnModel, path: Path) -> Loaded:
    program = load_program(path, trust=own.trust)
    if own.channels and program.channels not in (None, len(own.channels)):
        raise SegxaiError(
            f"{path.name} takes {program.channels} channels, but --channels names "
            f"{len(own.channels)}: give a name for each, in the program's order"
        )
    if program.window is not None and own.window not in (None, program.window):
        size = ",".join(map(str, program.window))
        raise SegxaiError(
            f"{path.name} was exported for images of {size} and takes nothing else: give "
            f"--window {size}, or leave it out"
        )
    origin = {"name": path.name, "package": f"a program ({program.kind})", "version": "unknown"}
    said = OwnModel(window=program.window)
    return Loaded(program.network, path.stem, origin, path, said)


def _from_bundle(own: OwnModel, folder: Path, checkpoint: Path | None) -> Loaded:
    bundle = load_bundle(folder, checkpoint, own.weights_key, trust=own.trust)
    said = OwnModel(
        channels=bundle.channels,
        classes=bundle.classes,
        window=bundle.window,
        overlap=bundle.overlap,
        activation=bundle.activation,
    )
    load_case = _own_way(bundle)
    return Loaded(
        bundle.network, bundle.name, bundle.origin, bundle.weights, said, bundle.notes, load_case
    )


def _own_way(bundle: Bundle) -> Callable[[tuple[str, ...]], LoadCase] | None:
    """Return how the bundle reads a case, given the channels' names; None if it does not say."""
    steps = bundle.preprocessing
    if steps is None:
        return None
    return lambda names: loader(BundleReader(bundle.name, steps, bundle.image, names).read)
