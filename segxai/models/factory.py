"""Factories: networks made by the function or class that `package.module:factory` names."""

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from segxai.errors import SegxaiError, one_line
from segxai.load.volumes import file_sha256
from segxai.segment.inference_mode import uncompiled

MADE = "write a function without arguments that returns the network, and name that"


def import_network(name: str) -> nn.Module:
    """Import the network that `package.module:factory` names, or call what makes it.

    The current folder is importable, as with `python -m`.

    Raises
    ------
    SegxaiError
        If nothing has this name, or if it does not make a network without arguments.
    """
    module_name, attribute = _parts(name)
    with _here():
        found = _attribute(_import(module_name), attribute, name)
        if isinstance(found, nn.Module):
            return uncompiled(found)
        if not callable(found):
            raise SegxaiError(
                f"--model {name} is a {type(found).__name__}; name a network, or a function or "
                "class that makes one"
            )
        return uncompiled(_made(found, name))


def origin_of(name: str) -> dict[str, Any]:
    """Describe where a factory comes from: its package and version, or its source file."""
    module_name, _ = _parts(name)
    top = module_name.partition(".")[0]
    source = getattr(sys.modules.get(module_name), "__file__", None)
    for package in packages_distributions().get(top, ()):
        try:
            return {"package": package, "version": version(package)}
        except PackageNotFoundError:  # its metadata was removed after it was listed
            continue
    if source is None or not Path(source).is_file():
        return {"package": top, "version": "unknown"}
    return {
        "package": top,
        "version": "unknown",
        "file": Path(source).name,
        "sha256": file_sha256(source),
    }


def _parts(name: str) -> tuple[str, str]:
    module, _, attribute = name.partition(":")
    if module.endswith(".py"):
        raise SegxaiError(
            f"--model {name}: name a module, not its file; from its folder, give "
            f"{Path(module).stem}:{attribute or 'FACTORY'}"
        )
    if not module or not attribute or not all(part.isidentifier() for part in module.split(".")):
        raise SegxaiError(
            f"--model {name} is neither a file nor package.module:factory; give a name such as "
            "lesions.networks:unet, or a TorchScript or torch.export program"
        )
    return module, attribute


@contextmanager
def _here() -> Iterator[None]:
    """Let the modules of the current folder be imported."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _import(name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, name):
            raise _no_module(name, str(error.name)) from error
        raise SegxaiError(
            f"--model: the module {name} fails to import: {type(error).__name__}: {one_line(error)}"
        ) from error


def _is_part(missing: str | None, name: str) -> bool:
    """Return whether the missing module is the one that was asked for, or a package around it."""
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _no_module(name: str, missing: str) -> SegxaiError:
    parent, _, last = missing.rpartition(".")
    nearest = difflib.get_close_matches(last, _siblings(parent), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    where = f"in the package {parent}" if parent else "in the current folder or among the packages"
    return SegxaiError(f"--model: no module {last!r} {where}, asked for as {name}{hint}")


def _siblings(parent: str) -> list[str]:
    """List the modules beside a missing one: in its package, or in the current folder."""
    folders = [os.getcwd()]
    if parent:
        spec = importlib.util.find_spec(parent)
        folders = list(spec.submodule_search_locations or ()) if spec else []
    return [
        path.stem
        for folder in folders
        for path in Path(folder).glob("*")
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = sorted(one for one in vars(found) if _may_be_meant(found, one))
            nearest = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise SegxaiError(
                f"--model {name}: no {part!r} in {module.__name__}; "
                f"known: {', '.join(known) or 'none'}{hint}"
            )
        found = getattr(found, part)
    return found


def _may_be_meant(holder: Any, attribute: str) -> bool:
    """Return whether a name is public and belongs to something that could make a network."""
    value = getattr(holder, attribute)
    if attribute.startswith("_") or inspect.ismodule(value):
        return False
    # What a module only imports from elsewhere is not what its author calls a factory.
    own = getattr(value, "__module__", None) == getattr(holder, "__name__", None)
    return isinstance(value, nn.Module) or (callable(value) and own)


def _made(factory: Callable[[], Any], name: str) -> nn.Module:
    _check_no_arguments(factory, name)
    try:
        network = factory()
    except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises
        raise SegxaiError(
            f"--model {name} raises {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise SegxaiError(
            f"--model {name} returns a {type(network).__name__}, not a torch.nn.Module; {MADE}"
        )
    return network


def _check_no_arguments(factory: Callable[[], Any], name: str) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # built in: nothing is known about it
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        one.name for one in parameters if one.default is one.empty and one.kind not in variable
    ]
    if needed:
        raise SegxaiError(f"--model {name} needs arguments ({', '.join(needed)}): {MADE}")
