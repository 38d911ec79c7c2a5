"""`segxai new-plugin`: a package to start from."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from segxai.errors import SegxaiError

NEXT = """made {folder}: a plugin that works as it is; REPLACE marks what to change
  pip install --editable {folder}
  segxai check {name}
  segxai run --plugin {name}
  pytest {folder}"""


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What --plugin will take, such as my_model.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write it; default: NAME here.", show_default=False
        ),
    ] = None,
) -> None:
    """Write the package of a new plugin: a small model that works, to be replaced by yours."""
    from segxai.cli.scaffold import check_name, write_package
    from segxai.plugins.registry import installed

    check_name(name)
    for info in installed():
        if (info.kind, info.name) == ("adapter", name):
            raise SegxaiError(
                f"there is an adapter {name!r} already, of {info.package} {info.version}; "
                "choose another name"
            )
    folder = folder or Path(name)
    write_package(name, folder)
    # pip takes a bare word for a name on its index.
    place = folder if folder.is_absolute() else f"./{folder}"
    typer.echo(NEXT.format(name=name, folder=shlex.quote(str(place))))
