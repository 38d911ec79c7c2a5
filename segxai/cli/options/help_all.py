"""The option that shows every other one."""

from typing import Annotated, Any

import typer


def _show_all_options(context: Any, wanted: bool) -> bool:
    """Print the help with every option, and exit."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False
        typer.echo(context.get_help())
        raise typer.Exit
    return wanted


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        callback=_show_all_options,
        is_eager=True,
        help="Show every option and exit.",
    ),
]
