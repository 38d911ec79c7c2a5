"""Report: the options that all scripts have, their tables and their files."""

import argparse
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.machine import machine


def options(text: str) -> argparse.ArgumentParser:
    """Build a parser with a script's help text and the options that all scripts have."""
    # MONAI warns of its future changes, which do not concern the reader here.
    warnings.filterwarnings("ignore", module=r"monai\.|torch\.")
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures here")
    return parser


def numbers(text: str) -> list[int]:
    """Parse an option's whole numbers, separated by commas."""
    return [int(word) for word in text.split(",")]


def words(text: str) -> list[str]:
    """Split an option into its words, separated by commas."""
    return text.split(",")


def table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column aligned to the left, all others to the right."""
    cells = [list(head), *([str(cell) for cell in line] for line in lines)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
    print(f"\n{title}")
    for number, line in enumerate(cells):
        first, *rest = (
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]))
        if not number:
            print("  ".join("-" * width for width in widths))
    print(flush=True)


def mebibytes(size: int | None) -> str:
    """Format bytes for a table."""
    return "" if size is None else f"{size / 2**20:,.0f} MiB"


def save(script: str, asked: argparse.Namespace, figures: Any) -> None:
    """Write what there is so far, if a file was asked for; a long run may be cut off."""
    if asked.json is None:
        return
    told = {name: str(value) for name, value in vars(asked).items() if name != "json"}
    found = machine(getattr(asked, "device", "cpu"))
    record = {"script": script, "machine": found, "options": told, "figures": figures}
    partial = asked.json.with_name(f"{asked.json.name}.partial")
    partial.write_text(json.dumps(finite(record), indent=2, allow_nan=False) + "\n")
    partial.replace(asked.json)


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, with null."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def finish(script: str, asked: argparse.Namespace, figures: Any) -> None:
    """Print what the figures were measured on, and write them where they were asked for."""
    found = machine(getattr(asked, "device", "cpu"))
    print("; ".join(f"{name} {value}" for name, value in found.items()))
    save(script, asked, figures)
