"""The command line: options in, results on stdout, progress on stderr. Nothing is decided here.

Heavy imports stay inside the commands, so that help comes at once.
"""

import sys
from typing import Annotated, Any

import typer

from segxai.cli.authoring import new_plugin
from segxai.cli.cohort import cohort, join
from segxai.cli.compare import compare
from segxai.cli.experiment import app as experiment
from segxai.cli.flags import as_flags
from segxai.cli.list import check, methods, plugins
from segxai.cli.results import export, rerun, show
from segxai.cli.run import run
from segxai.cli.tables import flag, table
from segxai.errors import SegxaiError
from segxai.text import printable

INTERRUPTED = 130  # what shells report for Ctrl-C
# What the parser raises for a misspelt option; typer exports no name for it.
USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="segxai",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run, cohort, join, show, table, flag, export, compare, rerun,
    plugins, methods, check, new_plugin,
):  # fmt: skip
    app.command()(command)
app.add_typer(experiment)


def main() -> None:
    """Run the command line; exit with 0 on success, 2 on a user's mistake, 1 on a bug."""
    try:
        status = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except SegxaiError as error:
        _fail(as_flags(error.text).splitlines()[0])
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except USAGE_ERROR as error:
        _fail(_usage(error))
    sys.exit(status)


def _fail(text: str) -> None:
    print(f"segxai: error: {printable(text)}", file=sys.stderr)
    sys.exit(2)


def _usage(error: Any) -> str:
    """Format the parser's complaint as one line that also says where to look."""
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text}; see {error.ctx.command_path} --help" if error.ctx else text


def _print_version(wanted: bool) -> bool:
    if wanted:
        from segxai import __version__

        print(f"segxai {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _segxai(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Explain segmentation models, one instance at a time."""
