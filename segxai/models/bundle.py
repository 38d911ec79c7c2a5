"""Bundles: MONAI bundles in local folders, as networks with what their files say about them."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from segxai.errors import SegxaiError
from segxai.load.volumes import file_sha256
from segxai.models.bundle_reader import in_words, without_advice
from segxai.segment.weights import load_weights
from segxai.types import Activation

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
NETWORKS = ("network_def", "network", "net")
WEIGHTS = ("model.pt", "model.pth", "model.safetensors")


@dataclass(frozen=True)
class Bundle:
    """A bundle's network and what its files say about it.

    Parameters
    ----------
    name : str
        Name of the bundle's folder.
    network : nn.Module
        The network with its weights.
    weights : Path
        The file that the weights came from.
    preprocessing : callable, optional
        The bundle's own; maps a mapping of file names to a mapping of arrays.
    image : str
        Key of the image in these mappings.
    channels, classes : tuple of str
        Names in the metadata; empty where it has none.
    window, overlap
        Settings of the bundle's sliding-window inferer.
    activation : {"softmax", "sigmoid"}
        Activation in the bundle's postprocessing.
    origin : mapping
        Where the bundle comes from, for the record.
    notes : tuple of str
        What the user should know.
    """

    name: str
    network: nn.Module
    weights: Path
    preprocessing: Callable[[dict[str, Any]], Any] | None = None
    image: str = "image"
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    window: tuple[int, ...] | None = None
    overlap: float = 0.25
    activation: Activation = "softmax"
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_bundle(
    folder: Path,
    checkpoint: Path | None = None,
    weights_key: str | None = None,
    *,
    trust: bool,
) -> Bundle:
    """Load the bundle in a folder.

    Parameters
    ----------
    checkpoint : Path, optional
        Weights to load instead of the bundle's own, `models/model.pt`.
    weights_key : str, optional
        Which set of weights to take, if the file holds several; see `unwrap`.
    trust : bool
        Whether the user vouches for the bundle: its configuration names functions that are called.

    Raises
    ------
    SegxaiError
        If the folder is not a bundle, is not trusted, or something in it fails.
    """
    config = _config_file(folder)
    if not trust:
        raise SegxaiError(
            f"{folder} is a bundle, whose {config.name} names the functions that build its "
            "network, and can name any function; if you know where it comes from, add --trust"
        )
    weights = checkpoint or _weights_file(folder)
    with _importable(folder), without_advice():
        parser = _parser(folder, config)
        network = _network(parser, folder)
        load_weights(network, weights, f"the bundle {folder.name}", key=weights_key)
        preprocessing = _parsed(parser, folder, "preprocessing")
        inferer = _parsed(parser, folder, "inferer")
    bundle = Bundle(folder.absolute().name, network.eval(), weights, preprocessing)
    try:
        return _described(_windowed(bundle, inferer), parser, config)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _fails(folder, "the metadata or the inferer", error) from error


def _described(bundle: Bundle, parser: Any, config: Path) -> Bundle:
    """Add what the metadata and the postprocessing say to the bundle."""
    metadata = parser.get("_meta_") or {}
    image, inputs = _format(metadata, "inputs", "image")
    _, outputs = _format(metadata, "outputs", "pred")
    return replace(
        bundle,
        channels=_names(inputs),
        classes=_names(outputs),
        activation="sigmoid" if _has_sigmoid(parser.get("postprocessing")) else "softmax",
        image=image,
        origin=_origin(bundle, config, metadata),
    )


def _config_file(folder: Path) -> Path:
    for name in CONFIGS:
        if (folder / "configs" / name).is_file():
            return folder / "configs" / name
    what = "a folder" if not folder.is_dir() else "a MONAI bundle: it has no configs/inference"
    raise SegxaiError(
        f"--bundle {folder} is not {what}; give the bundle's own folder, with "
        "configs/inference.json (or .yaml) and models/model.pt"
    )


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / "models" / name).is_file():
            return folder / "models" / name
    raise SegxaiError(
        f"--bundle {folder} has no weights models/model.pt; download them with the bundle, or give "
        "--checkpoint FILE"
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a configuration import the modules in the folder of its bundle."""
    place = str(folder.absolute())
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)


def _parser(folder: Path, config: Path) -> Any:
    from monai.bundle import ConfigParser  # type: ignore[attr-defined]  # is public

    parser = ConfigParser()
    try:
        parser.read_config(str(config))
        metadata = folder / "configs" / "metadata.json"
        if metadata.is_file():
            parser.read_meta(str(metadata))
    except Exception as error:  # whatever the readers of JSON and YAML raise
        raise _fails(folder, config.name, error) from error
    if not isinstance(parser.get(), dict):
        raise SegxaiError(f"{config.name} of the bundle {folder.name} holds no JSON object")
    parser["bundle_root"] = str(folder.absolute())
    if "device" in parser.get():
        parser["device"] = "$torch.device('cpu')"
    return parser


def _network(parser: Any, folder: Path) -> nn.Module:
    name = next((name for name in NETWORKS if name in parser.get()), None)
    if name is None:
        raise SegxaiError(
            f"the bundle {folder.name} defines no network: its configuration has none of "
            f"{', '.join(NETWORKS)}, only {', '.join(parser.get())}"
        )
    network = _parsed(parser, folder, name)
    if not isinstance(network, nn.Module):
        raise SegxaiError(
            f"{name} of the bundle {folder.name} is a {type(network).__name__}, not a "
            "torch.nn.Module"
        )
    return network


def _parsed(parser: Any, folder: Path, name: str) -> Any:
    """Build a part of the configuration; None where there is none."""
    if name not in parser.get():
        return None
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # a configuration calls anything, which raises anything
        raise _fails(folder, name, error) from error


def _fails(folder: Path, what: str, error: Exception) -> SegxaiError:
    return SegxaiError(f"{what} of the bundle {folder.name} fails: {in_words(error)}")


def _format(metadata: Mapping[str, Any], side: str, usual: str) -> tuple[str, Mapping[str, Any]]:
    """Find the name and format of an input or output in the metadata, the usual one if listed."""
    described = metadata.get("network_data_format", {}).get(side, {})
    name = usual if usual in described or not described else next(iter(described))
    return name, described.get(name, {})


def _names(described: Mapping[str, Any]) -> tuple[str, ...]:
    """List the names of channels, in their order; empty unless every channel has its own."""
    listed = described.get("channel_def", {})
    names = tuple(str(listed[number]) for number in sorted(listed, key=int))
    count = described.get("num_channels", len(names))
    return names if len(set(names)) == len(names) == count else ()


def _windowed(bundle: Bundle, inferer: Any) -> Bundle:
    """Add the windows of the bundle's inferer, and a note on what segxai does differently."""
    sizes = getattr(inferer, "roi_size", None)
    if not isinstance(sizes, list | tuple) or any(not n or n < 1 for n in sizes):
        return bundle
    mode = getattr(inferer, "mode", "")
    weights = str(getattr(mode, "value", mode))
    note = f"the bundle blends its windows with {weights} weights, segxai with Gaussian ones"
    return replace(
        bundle,
        window=tuple(int(n) for n in sizes),
        overlap=float(getattr(inferer, "overlap", bundle.overlap)),
        notes=() if weights == "gaussian" else (note,),
    )


def _has_sigmoid(config: Any) -> bool:
    """Return whether the postprocessing takes sigmoids."""
    if isinstance(config, Mapping):
        is_activation = str(config.get("_target_", "")).rpartition(".")[2].startswith("Activations")
        return (is_activation and config.get("sigmoid") is True) or any(
            map(_has_sigmoid, config.values())
        )
    return isinstance(config, list) and any(map(_has_sigmoid, config))


def _origin(bundle: Bundle, config: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    name = str(metadata.get("name") or bundle.name)
    return {
        "name": bundle.name,
        "package": f"MONAI bundle {name!r}",
        "version": str(metadata.get("version", "unknown")),
        "file": config.name,
        "sha256": file_sha256(config),
    }
