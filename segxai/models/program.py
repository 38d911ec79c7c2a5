"""Programs: networks in files of TorchScript or torch.export. ONNX is refused."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segxai.errors import SegxaiError, one_line

Kind = Literal["script", "export", "onnx", "module", "none"]
SUFFIXES = (".pt", ".pth", ".pt2", ".ts", ".torchscript", ".jit", ".onnx", ".pkl")
CODE = "--model package.module:factory"


class Program(nn.Module):
    """A loaded program as a network, which takes one image and hides its layers.

    Always in evaluation mode: programs keep the mode that they were saved in, and those of
    torch.export refuse to change it.

    Parameters
    ----------
    run : nn.Module
        The module that `torch.jit.load` or an exported program returns.
    shape : tuple of int or None, optional
        Shape of the only input that it takes, with None for an axis of any size; None if unknown.
    """

    def __init__(self, run: nn.Module, shape: tuple[int | None, ...] | None = None) -> None:
        super().__init__()
        self._program = [run]  # in a list, so that nobody changes its mode as a submodule's
        self.shape = shape

    def forward(self, image: Tensor) -> Any:
        """Run the program on an image.

        Raises
        ------
        RuntimeError
            If the program fails; the message is the one line that matters.
        """
        self._check(image)
        try:
            # Fused programs have no plain gradients.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # is public
                return self._program[0](image)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # somebody else's code: whatever it raises
            raise RuntimeError(one_line(error)) from error

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Iterate over the program's own parameters."""
        yield from self._program[0].parameters()

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Iterate over the program's own buffers."""
        yield from self._program[0].buffers()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Program":
        self._program[0]._apply(fn)
        return self

    def _check(self, image: Tensor) -> None:
        sizes = tuple(image.shape)
        if self.shape and not (
            len(sizes) == len(self.shape)
            and all(n in (None, m) for n, m in zip(self.shape, sizes, strict=True))
        ):
            taken = " x ".join("any" if n is None else str(n) for n in self.shape)
            raise RuntimeError(f"the program was exported for {taken} and takes nothing else")


@dataclass(frozen=True)
class LoadedProgram:
    """A program and what its file says about its input.

    Parameters
    ----------
    network : Program
        Ready to run.
    kind : {"script", "export", "module"}
        How it was saved.
    channels : int, optional
        Number of input channels, where the file says it.
    window : tuple of int, optional
        The only spatial size that it takes; None if it takes any size, or if that is unknown.
    """

    network: nn.Module
    kind: Kind
    channels: int | None = None
    window: tuple[int, ...] | None = None


def is_program(model: str) -> bool:
    """Return whether what is given as a model is a file and not the name of a factory."""
    return Path(model).is_file() or Path(model).suffix.lower() in SUFFIXES


def load_program(path: Path, *, trust: bool) -> LoadedProgram:
    """Load the program in a file.

    Parameters
    ----------
    trust : bool
        Whether the user vouches for the file: its loader may run code that is in it.

    Raises
    ------
    SegxaiError
        If the file is missing, not trusted, not a program, or a program without gradients.
    """
    kind = _kind(path)
    if kind not in LOADERS:
        raise _no_program(path, kind)
    if not trust:
        raise SegxaiError(
            f"{path.name} is a program, and loading one can run any code that is in it; if you "
            "know where it comes from, add --trust"
        )
    try:
        with warnings.catch_warnings():  # torch warns about its own deprecated loaders
            warnings.simplefilter("ignore")
            return LOADERS[kind](path)
    except SegxaiError:
        raise
    except Exception as error:  # loaders raise what their format's parser raises
        raise SegxaiError(
            f"{path.name} cannot be loaded as a program: {type(error).__name__}: "
            f"{one_line(error)}; it may come from another version of PyTorch, this is "
            f"{torch.__version__}"
        ) from error


def _kind(path: Path) -> Kind:
    """Tell from the suffix and the names in a file how a program was saved, without running it."""
    if not path.is_file():
        raise SegxaiError(f"no model file {path}; give a program, or package.module:factory")
    if path.suffix.lower() == ".onnx":
        return "onnx"
    if not zipfile.is_zipfile(path):
        return "none"
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return "none"
    names = {name.partition("/")[2] for name in listed} | set(listed)
    if "constants.pkl" in names:
        return "script"
    if "models/model.json" in names or "serialized_exported_program.json" in names:
        return "export"
    return "module" if "data.pkl" in names else "none"


def _no_program(path: Path, kind: Kind) -> SegxaiError:
    if kind == "onnx":
        return SegxaiError(
            f"{path.name} is an ONNX program, which computes no gradients; load the PyTorch model "
            f"it was made from, with {CODE}, or convert it: onnx2torch.convert({path.name!r}) "
            "returns a torch.nn.Module"
        )
    if path.suffix == ".safetensors":
        return _only_tensors(path)
    return SegxaiError(
        f"{path.name} is not a TorchScript or torch.export program; give one, or the network's "
        f"code with {CODE} and its weights with --checkpoint FILE"
    )


def _only_tensors(path: Path) -> SegxaiError:
    return SegxaiError(
        f"{path.name} holds weights but no network; give the network's code with {CODE}, and the "
        f"file with --checkpoint {path.name}"
    )


def _load_script(path: Path) -> LoadedProgram:
    module = torch.jit.load(path, map_location="cpu")
    if hasattr(module, "training"):  # a frozen one has no modes any more
        module.eval()
    return LoadedProgram(Program(module), "script")


def _load_export(path: Path) -> LoadedProgram:
    program = torch.export.load(path)
    shapes = _input_shapes(program)
    if len(shapes) != 1 or len(shapes[0]) < 3:
        raise SegxaiError(
            f"{path.name} takes {len(shapes)} inputs of {[len(one) for one in shapes]} axes; "
            "segxai gives a network one image (1, channel, *spatial): export a wrapper that takes "
            "one"
        )
    batch, channels, *spatial = shapes[0]
    if batch not in (1, None):
        raise SegxaiError(
            f"{path.name} was exported for batches of {batch} images; segxai gives one at a time: "
            "export it again with a batch of 1, or of any size"
        )
    fixed = [n for n in spatial if n is not None]
    window = tuple(fixed) if len(fixed) == len(spatial) else None
    return LoadedProgram(Program(program.module(), shapes[0]), "export", channels, window)


def _input_shapes(program: Any) -> list[tuple[int | None, ...]]:
    """List the shape of each input that a caller gives; None along an axis of any size."""
    given = set(program.graph_signature.user_inputs)
    values = [
        node.meta.get("val")
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in given
    ]
    return [
        tuple(n if isinstance(n, int) else None for n in getattr(value, "shape", ()))
        for value in values
    ]


def _load_module(path: Path) -> LoadedProgram:
    """Load a network that was pickled whole; the unpickler imports its classes."""
    found = torch.load(path, map_location="cpu", weights_only=False)
    if isinstance(found, nn.Module):
        return LoadedProgram(found.eval(), "module")
    raise _only_tensors(path)


LOADERS: dict[Kind, Callable[[Path], LoadedProgram]] = {
    "script": _load_script,
    "export": _load_export,
    "module": _load_module,
}
