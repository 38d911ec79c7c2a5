"""What is checked of a command before a model is loaded: names, files to read and to write."""

from pathlib import Path
from typing import TYPE_CHECKING

from segxai.cli.own_model import Words
from segxai.cli.parsing import files_by_channel, names_of
from segxai.cli.request import Files, Output
from segxai.errors import SegxaiError, option
from segxai.text import file_name

if TYPE_CHECKING:
    from segxai.run.options import Options


def check_names(plugin: str | None, found: "Options") -> None:
    """Check that plugins of these names are installed, by their metadata alone."""
    from segxai.plugins.registry import describe

    if plugin is not None:
        describe("adapter", plugin)
    describe("method", found.method.method)
    for name in found.method.aggregator:
        describe("aggregator", name)


def check_files(files: Files, found: "Options", output: Output) -> None:
    """Check what can be checked before anything is loaded."""
    if output.overwrite and output.append:
        raise SegxaiError("--overwrite and --append exclude each other: give one of them")
    for name in ("reference", "regions"):
        if getattr(files, name) and not files.images:
            raise SegxaiError(f"{option(name)} needs images: give them, too")
    check_weights(files)
    _check_inputs(files, found)
    if output.out:
        from segxai.store.atomic_file import resolved

        check_out(resolved(output.out), files, found, overwrite=output.overwrite)


def check_weights(files: Files) -> None:
    """Check that the files of weights are there."""
    for path in filter(None, (files.checkpoint, *files.folds)):
        if not path.exists():
            raise SegxaiError(f"no checkpoint at {path}")


def check_images(words: Words, files: Files) -> None:
    """Check that there is a file for each channel, where these are known without the model."""
    from segxai.plugins.registry import files_of

    if words.plugin is None and not files.images:
        raise SegxaiError("a model of your own has no embedded case: give it images")
    if not files.images:
        return
    wanted: tuple[str, ...] | None = None
    if words.plugin is not None and files.checkpoint is None:
        wanted = files_of(words.plugin)
    elif words.channels is not None:
        from segxai.load.reader import input_names

        wanted = input_names(names_of(words.channels), files.images)
    if wanted:
        files_by_channel(files.images, wanted)


def _check_inputs(files: Files, found: "Options") -> None:
    """Check that the files to read are there, whatever is in them."""
    from segxai.load.existence import not_found

    paths = {"image": [_file_in(image) for image in files.images]}
    paths["reference"] = [files.reference] if files.reference else []
    paths["regions"] = [files.regions] if files.regions else []
    domains = getattr(found.target.instances, "path", None)  # of a mask, or another result
    paths["mask"] = [domains] if domains else []
    for role, several in paths.items():
        for path in several:
            if not path.exists():
                raise not_found(path, role)


def _file_in(image: str) -> Path:
    """Return the file in an argument: behind a channel's name, unless `=` is in its own."""
    file = image.partition("=")[2]
    return Path(file if file and not Path(image).exists() else image)


def check_out(out: Path, files: Files, found: "Options", *, overwrite: bool) -> None:
    """Check that a result can be written there without harm to another file."""
    from segxai.store.hdf5 import check_replaceable, check_writable

    check_writable(out)
    if overwrite:
        check_replaceable(out)
    check_written((out, *pictures_of(out, ("",))), files, found, overwrite=overwrite)


def check_written(
    written: tuple[Path, ...], files: Files, found: "Options", *, overwrite: bool
) -> None:
    """Check that a result and its pictures replace no file to read, and no other picture."""
    from segxai.report.output_files import check_picture

    out, *pictures = written
    domains = getattr(found.target.instances, "path", None)  # of a mask, or another result
    others = filter(None, (files.reference, files.regions, files.checkpoint, *files.folds, domains))
    named = [name for image in files.images if (name := image.partition("=")[2])]
    inputs = {one.absolute() for one in (*map(Path, (*files.images, *named)), *others)}
    for path in written:
        if path.absolute() in inputs:
            what = "is" if path == out else f"would write its picture to {path}, which is"
            raise SegxaiError(f"--out {out} {what} one of the files to read; name another")
    for picture in pictures:
        check_picture(picture, overwrite=overwrite)


def pictures_of(out: Path, names: tuple[str, ...]) -> list[Path]:
    """List the pictures of a result's runs: the first is named as the result is."""
    others = [out.with_name(file_name(f"{out.stem}-{name}.png")) for name in names[1:]]
    return [out.with_suffix(".png"), *others]
