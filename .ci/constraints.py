"""The tested versions: prints `constraints.txt` from what is installed; `--check` compares it.

Everything that the project, its extras and its development groups pull in, and nothing else that
happens to be installed. Where a platform needs less (a Mac has no CUDA), more pins are harmless.
"""

import platform
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
PLATFORM = f"{platform.system()}, Python {sys.version_info.major}.{sys.version_info.minor}"
HEADER = f"# The versions that the tests ran with ({PLATFORM}); `make constraints` writes them.\n"


def required() -> list[str]:
    """List the requirements of the project with all extras and all groups of its development."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return ["segxai[all]", *(one for name in groups for one in _group(groups, name))]


def _group(groups: dict[str, list[Any]], name: str) -> Iterator[str]:
    for one in groups[name]:
        if isinstance(one, str):
            yield one
        else:
            yield from _group(groups, one["include-group"])


def pins() -> dict[str, str]:
    """Name to version of everything that is required here, directly or not."""
    waiting, seen, found = [Requirement(one) for one in required()], set(), {}
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        installed = distribution(requirement.name)
        found[key[0]] = installed.version.partition("+")[0]  # a build's local label is no release
        for line in installed.requires or ():
            inner = Requirement(line)
            extras = requirement.extras or {""}
            if not inner.marker or any(inner.marker.evaluate({"extra": one}) for one in extras):
                waiting.append(inner)
    found.pop("segxai")
    return found


def written(found: dict[str, str]) -> str:
    """Write the text of the file."""
    return HEADER + "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def problems(found: dict[str, str]) -> list[str]:
    """List what the file says otherwise; superfluous pins count on its own platform only."""
    text = FILE.read_text()
    pinned = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    wrong = [
        f"{name} {version} is installed, {pinned.get(name, 'nothing')} is pinned"
        for name, version in sorted(found.items())
        if pinned.get(name) != version
    ]
    if text.startswith(HEADER):
        wrong += [f"{name} is pinned, nothing needs it" for name in sorted(pinned.keys() - found)]
    return wrong


if __name__ == "__main__":
    if "--check" not in sys.argv:
        sys.stdout.write(written(pins()))
    elif wrong := problems(pins()):
        sys.exit("\n".join(["constraints.txt does not match:", *wrong]))
