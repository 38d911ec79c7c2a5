"""`segxai plugins`, `methods` and `check`: what is installed, and whether it works."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from segxai.cli.options import results
from segxai.errors import SegxaiError, one_line


def plugins(
    as_json: results.AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Import each, in a separate process.")
    ] = False,
) -> None:
    """List the installed plugins, from their metadata."""
    import json

    from segxai.plugins.registry import import_failure, installed

    rows: list[dict[str, Any]] = [asdict(info) for info in installed()]
    if check:
        for row in rows:
            row["failure"] = import_failure(row["kind"], row["name"])
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        from segxai.cli.terminal import print_table

        print_table(rows, {name: name for row in rows for name in row})
    broken = [row for row in rows if row.get("failure")]
    if broken:
        named = (
            f"{row['kind']} {row['name']} of {row['package']} {row['version']}" for row in broken
        )
        raise SegxaiError(f"plugins that fail to load: {', '.join(named)}")


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A method whose own options to list.", show_default=False
        ),
    ] = None,
) -> None:
    """List the attribution methods and aggregators, or the options of one method."""
    from segxai.cli.terminal import echo, print_table
    from segxai.plugins.registry import installed, load_method

    if name is not None:
        _print_method(name)
        return
    listed, rows = installed(), []
    for info in listed:
        if info.kind == "method":
            try:
                rows.append(vars(load_method(info.name)))
            except SegxaiError as error:  # a broken plugin breaks nothing else
                echo(f"warning: {one_line(error, limit=2000)}", err=True)
    headings = {"name": "method", "aggregator": "aggregator", "summary": "description"}
    print_table(rows, headings | {"reference": "reference"})
    names = (info.name for info in listed if info.kind == "aggregator")
    echo(f"aggregators: {', '.join(names)}")


def _print_method(name: str) -> None:
    """Print what one method does, and its own options."""
    from segxai.cli.terminal import echo, print_table
    from segxai.methods.own_options import described
    from segxai.plugins.registry import load_method

    method = load_method(name)
    echo(f"{method.name}: {method.summary}")
    rows = described(method)
    if not rows:
        typer.echo("no options of its own")
        return
    print_table(rows, {one: one for one in ("name", "type", "default", "help")})
    typer.echo("give them by --set NAME=VALUE")


def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Adapter: see `segxai plugins`.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Weights instead of the plugin's own.", show_default=False
        ),
    ] = None,
    weights_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Weights to take, if PATH holds several sets.", show_default=False
        ),
    ] = None,
) -> None:
    """Run the conformance checks on an adapter."""
    from segxai.cli.terminal import echo
    from segxai.plugins.registry import load_adapter
    from segxai.testing import check_adapter

    adapter, broken = load_adapter(name, checkpoint, weights_key), 0
    if adapter.summary:
        echo(f"{name}: {adapter.summary}")
    for finding in check_adapter(adapter):
        broken += not finding.holds
        detail = f": {finding.detail}" if finding.detail else ""
        echo(f"{'ok  ' if finding.holds else 'FAIL'} {finding.what}{detail}")
    if broken:
        raise SegxaiError(f"adapter {name!r} fails {broken} of the checks, see above")
