"""Plugins, found by their metadata and imported only when they are named."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from segxai.errors import SegxaiError, one_line, option, unknown_name
from segxai.plugins import hookspecs

if TYPE_CHECKING:
    from segxai.methods.method import Aggregator, Method
    from segxai.plugins.adapter import Adapter

GROUPS = {
    "adapter": "segxai.adapters",
    "method": "segxai.methods",
    "aggregator": "segxai.aggregators",
}


TRIAL = """
import sys
from segxai import errors
from segxai.plugins import registry
try:
    getattr(registry, f"load_{sys.argv[1]}")(sys.argv[2])
except errors.SegxaiError as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True)
class PluginInfo:
    """What the metadata say about a plugin, without importing it."""

    kind: str
    name: str
    package: str
    version: str
    module: str


def installed() -> list[PluginInfo]:
    """List all installed plugins, by kind and name, without importing them."""
    return [
        _info(kind, entry_point)
        for kind, group in GROUPS.items()
        for entry_point in sorted(entry_points(group=group), key=lambda found: found.name)
    ]


def describe(kind: str, name: str) -> PluginInfo:
    """Read the metadata of one plugin."""
    return _info(kind, _entry_point(kind, name))


def files_of(name: str) -> tuple[str, ...] | None:
    """Return the names of the files that a plugin takes, if its package tells them at once.

    They are `FILES` in the package of the plugin's module, which is imported without that module:
    a wrong number of images is told before the libraries of the network are imported.
    """
    package = _entry_point("adapter", name).module.rpartition(".")[0]
    if not package:
        return None
    try:
        return getattr(import_module(package), "FILES", None)
    except (Exception, SystemExit):  # somebody else's code: loading the plugin reports it
        return None


def load_adapter(
    name: str, checkpoint: Path | None = None, weights_key: str | None = None
) -> "Adapter":
    """Load the adapter of this name.

    Parameters
    ----------
    checkpoint : Path, optional
        A user's file or folder of weights, instead of the plugin's own.
    weights_key : str, optional
        The set of weights to take from a checkpoint that holds several; see `unwrap`.

    Raises
    ------
    SegxaiError
        If there is none, it fails to load, it knows no such checkpoint, or its package tells other
        files.
    """
    check_key(weights_key, checkpoint)
    adapter: Adapter = _load("adapter", name, checkpoint=checkpoint, weights_key=weights_key)
    told = files_of(name) if checkpoint is None else None
    if told is not None and told != adapter.files:
        raise SegxaiError(
            f"the adapter {name!r} takes the files {', '.join(adapter.files)}, but FILES in its "
            f"package says {', '.join(told)}: make them the same"
        )
    adapter = adapter if adapter.name else replace(adapter, name=name)
    return adapter if weights_key is None else replace(adapter, weights_key=weights_key)


def check_key(weights_key: str | None, checkpoint: Path | None) -> None:
    """Raise SegxaiError if a set of weights is chosen, but not the file that holds it."""
    if weights_key is not None and checkpoint is None:
        raise SegxaiError(
            f"{option('weights_key', weights_key)} chooses among the weights in a checkpoint: give "
            f"{option('checkpoint')}, too"
        )


def load_method(name: str) -> "Method":
    """Load the method of this name; raise SegxaiError if there is none, or if it fails to load."""
    method: Method = _load("method", name)
    return method


def load_aggregator(name: str) -> "Aggregator":
    """Load the aggregator of this name; raise SegxaiError if there is none or it fails to load."""
    aggregator: Aggregator = _load("aggregator", name)
    return aggregator


def import_failure(kind: str, name: str, timeout_seconds: float = 120) -> str:
    """Explain why a plugin cannot be loaded, by trying in a separate process; "" if it can."""
    try:
        process = subprocess.run(
            # -P, or modules and metadata in the current folder would come before those installed.
            [sys.executable, "-P", "-c", TRIAL, kind, name],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired:
        return f"does not load within {timeout_seconds:g} s"
    if process.returncode == 0:
        return ""
    lines = process.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process dies with exit status {process.returncode}"


def _load(kind: str, name: str, **asked: Any) -> Any:
    """Load the one plugin of this name, and return what its hook of this kind returns.

    A plugin is somebody else's code: whatever it raises is reported with its package and version.
    """
    entry_point = _entry_point(kind, name)
    info = _info(kind, entry_point)
    manager = pluggy.PluginManager("segxai")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(entry_point.load(), name=name)
        hook = getattr(manager.hook, f"segxai_{kind}")
        _check_taken(hook, info, asked)
        found = hook(name=name, **asked)
    except SegxaiError:
        raise
    except (Exception, SystemExit) as error:
        raise SegxaiError(
            f"{kind} {name!r} of {info.package} {info.version} ({info.module}) fails to load: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    _require(found, info)
    return found


def _check_taken(hook: pluggy.HookCaller, info: PluginInfo, asked: Mapping[str, Any]) -> None:
    """Check that a plugin does not leave out what the user asks of it."""
    taken = {n for one in hook.get_hookimpls() for n in (*one.argnames, *one.kwargnames)}
    left = [name for name, value in asked.items() if value is not None and name not in taken]
    if left and hook.get_hookimpls():
        raise SegxaiError(
            f"{info.kind} {info.name!r} of {info.package} {info.version} takes no "
            f"{option(left[0])}: leave it out"
        )


def _require(found: Any, info: PluginInfo) -> None:
    """Check that a hook returned something, under the same name as the entry point."""
    registered = (
        f"{info.module} of {info.package} {info.version} is registered as {info.kind} {info.name!r}"
    )
    if found is None:
        raise SegxaiError(f"{registered}, but no hook segxai_{info.kind} in it returns one")
    called = getattr(found, "name", None)
    is_filled_in = info.kind == "adapter" and called == ""
    if called != info.name and not is_filled_in:
        raise SegxaiError(
            f"{registered}, but its hook returns a {type(found).__name__} that is named "
            f"{called!r}: make the names the same"
        )


# Entry points are of the class of importlib_metadata wherever that was imported first.
EntryPoint = Any


def _entry_point(kind: str, name: str) -> EntryPoint:
    group = entry_points(group=GROUPS[kind])
    found = [entry_point for entry_point in group if entry_point.name == name]
    if not found:
        raise unknown_name(kind, name, {entry_point.name for entry_point in group})
    packages = {(_info(kind, one).package, one.value) for one in found}
    if len(packages) > 1:
        listed = ", ".join(sorted(f"{value} of {package}" for package, value in packages))
        raise SegxaiError(
            f"{kind} {name!r} is registered more than once: {listed}; uninstall all but one"
        )
    return found[0]


def _info(kind: str, entry_point: EntryPoint) -> PluginInfo:
    package = entry_point.dist
    return PluginInfo(
        kind,
        entry_point.name,
        package.name if package else "unknown",
        package.version if package else "unknown",
        entry_point.value,
    )
