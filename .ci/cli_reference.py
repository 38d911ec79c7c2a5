"""Write the reference of the command line from its help: every option, also those of --help-all."""

import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from segxai.cli import app


def reference() -> str:
    """Return the page, with the options that the short help leaves out."""
    group = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            parameter.hidden = False
    context = typer.Context(group, obj={"TYPER_RICH_MARKUP_MODE": app.rich_markup_mode})
    page = get_docs_for_click(obj=group, ctx=context, name="segxai", title="Command line")
    return f"{page.strip()}\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
