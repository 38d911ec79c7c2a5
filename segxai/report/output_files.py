"""Output files of a report: they replace what segxai wrote before, and nothing else.

Our pictures carry a mark. An export folder has a list of the files that were written to it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segxai.errors import SegxaiError
from segxai.load.volumes import file_sha256
from segxai.store.atomic_file import replacing

MARK = "segxai"  # the Software in a picture's metadata
LIST = ".segxai.sha256"  # as sha256sum writes and checks it
REMEDY = "move it away, name another place, or give --overwrite"


def make_folder(folder: Path) -> None:
    """Create a folder to write to, with its parents. Raises SegxaiError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegxaiError(f"cannot make the folder {folder}: {error.strerror}") from error


def check_picture(path: Path, *, overwrite: bool = False) -> None:
    """Check that a picture may be written here: it would replace only one of ours.

    Raises
    ------
    SegxaiError
        If there is another file, and `overwrite` is False.
    """
    _check_ours(path, _is_our_picture, overwrite=overwrite)


def _is_our_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return b"tEXtSoftware\0" + MARK.encode() in file.read(4096)


def _check_ours(path: Path, is_ours: Callable[[Path], bool], *, overwrite: bool) -> None:
    """Check that a file may be replaced: it is ours, empty, or the user said so."""
    if path.is_dir():
        raise SegxaiError(f"cannot write {path}: it is a folder")
    if overwrite or not (path.exists() or path.is_symlink()):
        return
    if path.is_symlink():
        raise SegxaiError(f"{path} is a symbolic link, which is not followed: {REMEDY}")
    if not path.is_file() or (path.stat().st_size and not is_ours(path)):
        raise SegxaiError(f"{path} was not written by segxai, or has changed since: {REMEDY}")


@dataclass(frozen=True)
class ExportFolder:
    """A folder to export to, with a list of what was exported, so that only that is replaced.

    Parameters
    ----------
    overwrite : bool
        Whether any file may be replaced.
    """

    folder: Path
    overwrite: bool = False

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a draft for the file with this name, which takes its place, and list the file.

        Raises
        ------
        SegxaiError
            If another file has the name, or it cannot be written.
        """
        path, listed = self.folder / name, self._listed()
        _check_ours(
            path, lambda here: listed.get(name) == file_sha256(here), overwrite=self.overwrite
        )
        with replacing(path, copy=False) as draft:
            yield draft
        listed[name] = file_sha256(path)
        with replacing(self.folder / LIST, copy=False) as draft:
            draft.write_text("".join(f"{value}  {name}\n" for name, value in listed.items()))

    def _listed(self) -> dict[str, str]:
        """Read the sha256 of the files in the list, by name; empty if there is none."""
        path = self.folder / LIST
        if path.is_symlink() or not path.is_file():
            return {}
        lines = path.read_text(errors="replace").splitlines()
        pairs = (line.split("  ", maxsplit=1) for line in lines if "  " in line)
        return {name: value for value, name in pairs}
