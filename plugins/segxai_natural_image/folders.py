"""Folders: models of Hugging Face transformers, as `save_pretrained` wrote them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segxai import SegxaiError, one_line, unknown_name
from segxai_natural_image.extras import library, quiet
from segxai_natural_image.folder_files import (
    TOP,
    WEIGHTS,
    check_config,
    read_object,
    read_weights,
    sets_of,
    weight_files,
)

CONFIG = "config.json"
QUERIES = ("mask2former", "maskformer")  # types whose post-processing is known here
ASK = f"give a folder that save_pretrained wrote: {CONFIG}, {WEIGHTS[0]}, preprocessor_config.json"


@dataclass(frozen=True)
class Folder:
    """A model's folder, and what its configuration says.

    Parameters
    ----------
    path : Path
        The folder.
    config : Any
        Its `PretrainedConfig`.
    finds_instances : bool
        Whether each of the model's queries is an instance; otherwise, each logit is a class.
    architecture : str
        The class of transformers that it is an instance of.
    """

    path: Path
    config: Any
    finds_instances: bool
    architecture: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        names: Mapping[int, str] = self.config.id2label
        return tuple(str(names.get(n, f"class {n}")) for n in range(self.config.num_labels))

    @property
    def weights(self) -> Path:
        """The file of weights, as it is loaded, or the folder if there are several.

        Raises
        ------
        SegxaiError
            If there are none.
        """
        files = weight_files(self.path)
        return files[0] if len(files) == 1 else self.path


def read_folder(path: Path) -> Folder:
    """Read a folder's configuration, without its weights.

    Raises
    ------
    SegxaiError
        If it is not a segmentation model of transformers, or one that is not known here.
    """
    kind = _model_type(path)
    library("transformers")
    from transformers.models.auto import modeling_auto

    semantic = modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
    instance = modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    names = {**semantic, **{kind: instance[kind] for kind in QUERIES}}
    if kind not in names:
        raise SegxaiError(
            f"{path.name} is a model of type {kind!r}, not a segmentation model known here; "
            f"known: {', '.join(sorted(semantic))}, and with instances {', '.join(QUERIES)}"
        )
    config = _config(path)
    made_for = config.architectures or [names[kind]]
    if not isinstance(made_for, list) or not isinstance(config.id2label, dict):
        raise SegxaiError(f"{path / CONFIG} is damaged: architectures or id2label; {ASK}")
    made_for = [str(one) for one in made_for]
    if names[kind] not in made_for:
        raise SegxaiError(
            f"{path.name} holds the weights of {', '.join(made_for)}, which do not segment; give a "
            f"folder of {names[kind]}"
        )
    return Folder(path, config, kind in QUERIES, names[kind])


def load_folder(folder: Folder, weights_key: str | None = None) -> nn.Module:
    """Load the folder's model in eval mode and float32. Nothing in the folder can run code.

    Parameters
    ----------
    weights_key : str, optional
        The set of weights to take, if the files hold several; see `unwrap`.

    Raises
    ------
    SegxaiError
        If its weights cannot be read, or some are missing.
    """
    sets = dict(sets_of(read_weights(folder.path)))
    if weights_key is not None and weights_key not in sets:
        raise unknown_name("key of weights", weights_key, sets)
    model, report = _loaded(folder, sets.get(weights_key or TOP, {}))
    if weights_key is None and (report["missing_keys"] or report["unexpected_keys"]):
        likely = {key: one for key, one in sets.items() if 2 * len(one) > len(model.state_dict())}
        key = _only_usable(folder, likely, is_top_usable=not report["missing_keys"])
        if key not in ("", TOP):
            model, report = _loaded(folder, sets[key])
    missing = sorted(report["missing_keys"])
    if missing:
        raise SegxaiError(
            f"{folder.path.name} lacks {len(missing)} tensors of {type(model).__name__}, such as "
            f"{missing[0]!r}; give the folder of a model that was trained to segment"
        )
    network: nn.Module = model.eval()
    return network


def _only_usable(
    folder: Folder, sets: Mapping[str, Mapping[str, Tensor]], *, is_top_usable: bool
) -> str:
    """Find the only set of weights that fills the model; "" if there is none."""
    usable = [TOP] if is_top_usable else []
    usable += [key for key, one in sets.items() if key != TOP and _fills(folder, one)]
    if len(usable) > 1:
        raise SegxaiError(
            f"{folder.path.name} holds {len(usable)} sets of weights for the same network: "
            f"{', '.join(map(repr, usable))}; say which with --weights-key"
        )
    return usable[0] if usable else ""


def _fills(folder: Folder, tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether the tensors fill the model.

    Only transformers knows the names that it takes, old ones among them, so that it is tried.
    """
    try:
        return not _loaded(folder, tensors)[1]["missing_keys"]
    except SegxaiError:
        return False


def _loaded(folder: Folder, tensors: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Any]]:
    """Load the model from tensors by name, and report which were missing."""
    loader = getattr(library("transformers"), folder.architecture)
    try:
        with quiet():
            model, report = loader.from_pretrained(
                None,  # nothing but these tensors is loaded
                config=folder.config,
                state_dict=dict(tensors),
                attn_implementation=None,  # transformers' own, whatever the configuration says
                local_files_only=True,
                dtype="float32",
                output_loading_info=True,
            )
    # For weights that it cannot use, transformers raises errors of many types.
    except Exception as error:
        raise SegxaiError(
            f"the weights of {folder.path.name} cannot be loaded ({one_line(error)}); {ASK}"
        ) from error
    return model, report


def _model_type(path: Path) -> str:
    """Read the type of model from the JSON alone: transformers takes seconds to import."""
    file = path / CONFIG
    if not file.is_file():
        raise SegxaiError(
            f"folder {path} has no {CONFIG}: it is not a model of transformers; {ASK}"
        )
    try:
        content = read_object(file)
    except SegxaiError as error:
        raise SegxaiError(f"{error}; {ASK}") from error
    check_config(content, file)
    kind = content.get("model_type")
    if not isinstance(kind, str):
        raise SegxaiError(f"{file} names no model_type: it is not a model of transformers; {ASK}")
    return kind


def _config(path: Path) -> Any:
    transformers = library("transformers")
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
    # Errors of many types, as for weights.
    except Exception as error:
        raise SegxaiError(f"{path / CONFIG} cannot be used ({one_line(error)}); {ASK}") from error
