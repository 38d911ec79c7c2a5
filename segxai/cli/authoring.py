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
        str, typer.Argument(metavar="NAME", help="Name for --plugin, such as my_model.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; default: ./NAME.", show_default=False),
    ] = None,
) -> None:
    """Write the package of a new plugin: a small working model to replace with yours."""
    from segxai.cli.scaffold import check_name, write_package
    from segxai.plugins.registry import installed

    check_name(name)
    for info in installed():
        if (info.kind, info.name) == ("adapter", name):
            raise SegxaiError(
                f"there is already an adapter {name!r}, from {info.package} {info.version}; "
                "choose another name"
            )
    folder = folder or Path(name)
    write_package(name, folder)
    # pip takes a bare word for a name on its index.
    place = folder if folder.is_absolute() else f"./{folder}"
    typer.echo(NEXT.format(name=name, folder=shlex.quote(str(place))))
