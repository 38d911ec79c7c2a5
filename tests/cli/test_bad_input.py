"""What a user can fix is one clear line and exit status 2, and nothing that exists is touched."""

import errno
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from tests.commandline import SEGXAI, assert_same, package, process, segxai, snapshot, write_nifti
from tests.commandline import install as install_package
from tests.pickles import Bomb
from tests.toy.segxai_toy import picture

TWO = ["bright.nii.gz", "other.nii.gz"]
QUICK = ["--method", "gradient", "--aggregator", "mean"]


pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def case(result):
    """The current folder, with a made-up case and its finished result, `r.h5`."""
    return Path.cwd()


def contents():
    """Every file below the current folder with its bytes."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(*arguments):
    """The error of a command, which leaves every file as it was."""
    before = contents()
    error = segxai(*arguments).error
    assert contents() == before
    return error


def run(*arguments, images=TWO, plugin="toy", out="r.h5"):
    return "run", "--plugin", plugin, *images, *QUICK, "--out", out, *arguments


def option(*arguments):
    return run(*arguments, out="new.h5")


# ---------------------------------------------------------------------------- names and numbers

NAMES_AND_NUMBERS = {
    "plugin": (run(plugin="tyo"), ["unknown adapter 'tyo'", "known: ms_lesion, nat", "'toy'?"]),
    "method": (
        option("--method", "smoothgard"),
        ["unknown method 'smoothgard'", "known: class_gradcam++", "did you mean 'smoothgrad'?"],
    ),
    "aggregator": (
        option("--aggregator", "signed-max"),
        ["unknown aggregator 'signed-max'", "known: mean, signed_max", "mean 'signed_max'?"],
    ),
    "aggregator of a method without rows": (
        option("--method", "gradcam++"),
        ["method 'gradcam++' has no rows to aggregate"],
    ),
    "layer": (
        ["run", "--plugin", "toy", *TWO, "--method", "gradcam++", "--layer", "feature"],
        ["unknown layer 'feature'", "known: active, features, logits", "did you mean 'features'?"],
    ),
    "layer of a method that looks at none": (
        option("--layer", "features"),
        ["method 'gradient' uses no layer"],
    ),
    "score": (
        option("--score", "logits"),
        ["unknown score 'logits'", "known: logit, margin, probability", "mean 'logit'?"],
    ),
    "noise unit": (
        option("--noise-unit", "p95"),
        ["unknown noise unit 'p95'", "known: absolute, p99, range", "mean 'p99'?"],
    ),
    "class": (
        option("--class", "bal"),
        ["unknown class 'bal'", "known: ball, rest", "mean 'ball'?"],
    ),
    "device": (option("--device", "gpu"), ["device 'gpu' is not available", "known: auto, cpu"]),
    "device number": (option("--device", "cuda:99"), ["device 'cuda:99' is not available"]),
    "engine": (
        option("--engine", "window"),
        ["unknown engine 'window'", "known: auto, dense, lowrank, windowed", "mean 'windowed'?"],
    ),
    "samples": (option("--samples", "0"), ["--samples 0: give a number of 1 or more"]),
    "samples as a word": (
        option("--samples", "many"),
        ["--samples many: give an integer, or auto"],
    ),
    "tolerance": (
        (*option("--tolerance", "0"), "--samples", "auto"),
        ["--tolerance 0.0: give a number above 0"],
    ),
    "tolerance without auto": (
        option("--tolerance", "0.1"),
        ["--tolerance 0.1 belongs to --samples auto: give that, too"],
    ),
    "an odd number of antithetic copies": (
        (*option("--samples", "5"), "--antithetic"),
        ["--samples 5, --antithetic: copies come in pairs; give an even number"],
    ),
    "auto without noisy copies": (
        (*option("--samples", "auto"), "--method", "gradient"),
        ["method 'gradient' makes no noisy copies: leave out --antithetic and --samples auto"],
    ),
    "noise": (option("--noise", "-0.1"), ["--noise -0.1: give a number of 0 or more"]),
    "noise that is no number": (option("--noise", "nan"), ["--noise nan: give a number"]),
    "rows": (option("--rows", "0"), ["--rows 0: give a number of 1 or more"]),
    "crop": (option("--crop", "-1"), ["--crop -1", "give a number of 0 or more"]),
    "batch": (option("--batch", "0"), ["--batch 0: give a number of 1 or more"]),
    "seed": (option("--seed", "-1"), ["--seed -1: give a number of 0 or more"]),
    "threshold 0": (option("--threshold", "0"), ["threshold 0 is not a probability between"]),
    "threshold 1.5": (option("--threshold", "1.5"), ["threshold 1.5 is not a probability"]),
    "minimum volume": (option("--min-volume", "-5"), ["minimum volume -5 mm3: give 0 or more"]),
    "option": (option("--sample", "5"), ["--sample", "--samples", "segxai run --help"]),
    "command": (["runn"], ["'runn'", "segxai --help"]),
    "no plugin": (["run", *TWO], ["no model: give --plugin NAME", "--model or --bundle"]),
    "overwrite and append": (
        run("--overwrite", "--append"),
        ["--overwrite and --append exclude each other"],
    ),
}


@pytest.mark.parametrize(("command", "words"), NAMES_AND_NUMBERS.values(), ids=NAMES_AND_NUMBERS)
def test_a_wrong_name_or_number_is_answered_with_what_is_known(case, command, words):
    error = refused(*command)
    assert all(word in error for word in words), error


# ------------------------------------------------------------------------------------- instances

INSTANCES = {
    "label": (option("--instances", "99"), ["no instance 99", "this case has 1 to 4"]),
    "labels": (option("--instances", "1,7,99"), ["no instance 7, 99", "this case has 1 to 4"]),
    "mask that is not there": (
        option("--instances", "nosuch.nii"),
        ["--instances nosuch.nii: neither labels such as 1,2,5, nor a file"],
    ),
    "word": (option("--instances", "first"), ["--instances first: neither labels"]),
    "half a list": (option("--instances", "1,,2"), ["--instances 1,,2: neither labels"]),
    "class-level method": (
        [*option("--instances", "1"), "--method", "class_smoothgrad"],
        ["'class_smoothgrad' explains the whole class at once: leave out --instances"],
    ),
    "split without a mask": (option("--split"), ["--split cuts a mask", "--instances MASK"]),
    "none found": (
        option("--threshold", "0.9999"),
        ["no instance found", "threshold 0.9999", "lower --threshold", "--instances MASK"],
    ),
    "none large enough": (
        option("--min-volume", "1e6"),
        ["largest piece of ball has 40 mm3, the smallest instance is 1e+06 mm3", "--min-volume"],
    ),
    "none of the class": (
        [*option("--threshold", "0.9999"), "--method", "class_smoothgrad"],
        ["no instance found", "a lower --threshold"],
    ),
}


@pytest.mark.parametrize(("command", "words"), INSTANCES.values(), ids=INSTANCES)
def test_instances_that_are_not_there(case, command, words):
    error = refused(*command)
    assert all(word in error for word in words), error


MASKS = {
    "empty": (np.zeros((20, 18, 16), np.uint8), None, ["mask file m.nii.gz is empty"]),
    "of fractions": (np.full((20, 18, 16), 0.5), None, ["is not a mask", "give labels"]),
    "negative": (np.full((20, 18, 16), -1, np.int16), None, ["is not a mask", "-1"]),
    "of another shape": (np.ones((20, 18, 15), np.uint8), None, ["20 x 18 x 15", "share a grid"]),
    "of another place": (
        np.ones((20, 18, 16), np.uint8),
        np.diag([1, 1, 2, 1]),
        ["1 x 1 x 2 mm", "share a grid"],
    ),
}


@pytest.mark.parametrize(("data", "affine", "words"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("given_as", ["--instances", "--reference"])
@pytest.mark.filterwarnings("default:the reference m.nii.gz has no objects")
def test_a_mask_that_does_not_fit(case, given_as, data, affine, words):
    write_nifti("m.nii.gz", data, affine)
    if given_as == "--reference" and not np.any(data):
        done = segxai(*option(given_as, "m.nii.gz"), "--dry-run")
        assert done.status == 0
        assert "has no objects" in done.err  # as of a healthy control
        return
    if given_as == "--reference":
        words = [word.replace("mask file", "reference file") for word in words]
    error = refused(*option(given_as, "m.nii.gz"))
    assert all(word in error for word in words), error


# ---------------------------------------------------------------------------------------- images


def test_a_missing_image_names_the_nearest(case):
    error = refused(*option(), "--reference", "mask.nii")
    assert "'mask.nii.gz'?" in error
    error = refused(*run(images=["brigth.nii.gz", "other.nii.gz"], out="new.h5"))
    assert "'bright.nii.gz'?" in error


IMAGE_LISTS = {
    "one": (TWO[:1], ["1 image for 2 channels", "bright, other, in this order", "CHANNEL=FILE"]),
    "three": ([*TWO, "mask.nii.gz"], ["3 images for 2 channels"]),
    "one named": ([f"bright={TWO[0]}", TWO[1]], ["2 images for 2 channels", "all by name"]),
    "misnamed": ([f"brigth={TWO[0]}", f"other={TWO[1]}"], ["channel 'brigth'", "'bright'?"]),
    "twice": ([f"bright={TWO[0]}", f"bright={TWO[1]}"], ["channel 'bright' is given twice"]),
    "folder": (["bright.nii.gz", "."], ["other . is a folder; give the image file in it"]),
}


@pytest.mark.parametrize(("images", "words"), IMAGE_LISTS.values(), ids=IMAGE_LISTS)
def test_a_list_of_images_that_does_not_fit_the_channels(case, images, words):
    error = refused(*run(images=images, out="new.h5"))
    assert all(word in error for word in words), error


def test_no_image_for_a_plugin_without_an_embedded_case(case):
    assert "no embedded case; give it images" in refused(*run(images=[], plugin="toy_plain"))


def test_a_reference_without_images(case):
    error = refused(*run("--reference", "mask.nii.gz", images=[]))
    assert "--reference needs images" in error


SHAPE = (20, 18, 16)
VOLUMES = {
    "zeros": (np.zeros(SHAPE), ["other file bad.nii.gz has the same value 0 in every voxel"]),
    "constant": (np.full(SHAPE, 7.0), ["has the same value 7 in every voxel"]),
    "NaN": (np.where(np.indices(SHAPE)[0] == 3, np.nan, 1), ["288 of 5760 voxels that are NaN"]),
    "infinite": (np.where(np.indices(SHAPE)[0] == 3, np.inf, 1), ["NaN or infinite"]),
    "2D": (np.ones((20, 18)), ["20 x 18 voxels, which is not a 3D volume"]),
    "4D": (np.ones((20, 18, 16, 3)), ["20 x 18 x 16 x 3 voxels, which is not a 3D volume"]),
    "complex": (np.ones(SHAPE, np.complex64), ["instead of real intensities"]),
    "of another shape": (np.indices((20, 18, 15))[0], ["20 x 18 x 15", "share a grid"]),
}


@pytest.mark.parametrize(("data", "words"), VOLUMES.values(), ids=VOLUMES)
def test_an_image_that_cannot_be_used(case, data, words):
    write_nifti("bad.nii.gz", data.astype(np.float64) if data.dtype.kind == "i" else data)
    error = refused(*run(images=["bright.nii.gz", "bad.nii.gz"], out="new.h5"))
    assert all(word in error for word in words), error


def test_files_that_are_no_images(case):
    Image.new("L", (8, 8)).save("photo.png")
    Path("cut.nii.gz").write_bytes(Path("bright.nii.gz").read_bytes()[:3000])
    Path("empty.nii.gz").touch()
    Path("text.nii").write_text("not an image")
    for name in ("photo.png", "cut.nii.gz", "empty.nii.gz", "text.nii"):
        error = refused(*run(images=[name, "other.nii.gz"], out="new.h5"))
        assert f"bright file {name}" in error


@pytest.mark.parametrize("shape", [(2, 3, 2), (22, 16, 16)])
def test_an_image_that_does_not_fit_the_stride_of_the_network(case, shape):
    for name in TWO:
        write_nifti(name, np.random.default_rng(0).random(shape))
    error = refused(*run(plugin="toy_strided", out="new.h5"))
    assert f"(1, 2, {', '.join(map(str, shape))})" in error
    assert "multiple of its stride" in error or "logits (1, class, *spatial) of the same" in error


# ----------------------------------------------------------------------------------------- model


def test_logits_that_are_not_finite(case):
    error = refused(*run(plugin="toy_nan", out="new.h5"))
    assert "not finite" in error


def test_memory_that_runs_out(case):
    error = refused(*run(plugin="toy_full", out="new.h5"))
    assert "1.00 TiB" in error
    assert "--batch" in error


def truncated(path, content):
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[:-200])


CHECKPOINTS = {
    "missing": (lambda path: None, "no checkpoint at w.pt"),
    "bomb": (lambda path: torch.save({"state_dict": Bomb()}, path), "could run code on loading"),
    "bare bomb": (lambda path: path.write_bytes(pickle.dumps(Bomb())), "could run code on loading"),
    "text": (lambda path: path.write_text("weights"), "cannot read the checkpoint w.pt"),
    "truncated": (
        lambda path: truncated(path, {"a": torch.ones(99)}),
        "cannot read the checkpoint",
    ),
    "of another network": (
        lambda path: torch.save(torch.nn.Conv3d(2, 2, 3).state_dict(), path),
        "does not fit the lesion network: 'model.0.conv.weight' is absent; expected a 3D UNet",
    ),
    "no state dict": (lambda path: torch.save([1, 2], path), "holds a list; expected a state dict"),
}


@pytest.mark.parametrize(("write", "words"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used(case, write, words):
    write(Path("w.pt"))
    bright, other = picture((24, 26, 22))
    write_nifti("flair.nii.gz", bright)
    write_nifti("t1.nii.gz", other)
    error = segxai(
        "run", "--plugin", "ms_lesion", "flair.nii.gz", "t1.nii.gz", "--checkpoint", "w.pt"
    )
    assert words in error.error
    assert not Path("exploded").exists()


def test_the_bomb_would_explode():
    assert pickle.loads(pickle.dumps(Bomb())) is None
    Path("exploded").rmdir()


# --------------------------------------------------------------------------------------- results


def test_an_output_that_cannot_be_written(case):
    Path("taken").mkdir()
    for out, words in {
        "nowhere/r.h5": "--out nowhere/r.h5: there is no folder nowhere; create it first",
        "taken": "--out taken is a folder; name a file in it, such as taken/out.h5",
        "r.png": "--out r.png: the picture gets this name; end it in .h5",
        "bright.nii.gz": "--out bright.nii.gz is one of the files to read; name another",
    }.items():
        assert words in refused(*run(out=out))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no file")
def test_a_folder_that_takes_no_file(case):
    error = refused(*run(out="/proc/r.h5"))
    assert "cannot write /proc/r.h5" in error or "/proc cannot be written to" in error


@pytest.mark.parametrize("name", ["photo.h5", "data.h5", "empty.h5"])
def test_overwrite_replaces_results_only(case, name):
    {"photo.h5": Path.write_text, "data.h5": foreign_hdf5, "empty.h5": Path.write_text}[name](
        Path(name), "" if name == "empty.h5" else "a file of the user's"
    )
    error = refused(*run("--overwrite", out=name))
    assert "--overwrite" in error


def foreign_hdf5(path, text="x"):
    with h5py.File(path, "w") as file:
        file["data"] = text


def of_schema(path, version):
    shutil.copy("r.h5", path)
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = version


NO_RESULTS = {
    "missing": (lambda path: None, "no result file x.h5"),
    "folder": (Path.mkdir, "x.h5 is a folder"),
    "text": (lambda path: path.write_text("text"), "x.h5 is not a readable HDF5 file"),
    "empty": (Path.touch, "x.h5 is not a readable HDF5 file"),
    "cut": (
        lambda path: path.write_bytes(Path("r.h5").read_bytes()[:5000]),
        "x.h5 is not a readable HDF5 file",
    ),
    "other HDF5": (foreign_hdf5, "x.h5 is HDF5, but not a result of segxai"),
    "newer": (
        lambda path: of_schema(path, 99),
        "x.h5 has schema version 99, this segxai reads 3; install a newer segxai",
    ),
    "older": (
        lambda path: of_schema(path, 1),
        "x.h5 has schema version 1, this segxai reads 3; run the command again",
    ),
    "word for a schema": (lambda path: of_schema(path, "one"), "not a result of segxai"),
}


@pytest.mark.parametrize(("write", "words"), NO_RESULTS.values(), ids=NO_RESULTS)
@pytest.mark.parametrize("command", ["show", "export", "rerun"])
def test_a_file_that_is_no_result(case, command, write, words):
    write(Path("x.h5"))
    arguments = ["x.h5", "maps"] if command == "export" else ["x.h5"]
    assert words in refused(command, *arguments)


@pytest.mark.parametrize("name", ["text", "other HDF5", "newer", "older"])
def test_a_run_does_not_go_on_with_a_file_that_is_no_result(case, name):
    write, words = NO_RESULTS[name]
    write(Path("x.h5"))
    assert words in refused(*run(out="x.h5"))
    assert words in refused(*run("--append", out="x.h5"))


def test_a_run_that_is_not_in_the_file(case):
    for command in (["show", "r.h5"], ["export", "r.h5", "maps"], ["rerun", "r.h5"]):
        error = refused(*command, "--run", "gradient-maen")
        assert "'gradient-maen'; known: gradient-mean" in error


def test_a_result_without_a_run(case):
    with h5py.File("r.h5", "a") as file:
        del file["attributions"], file["summaries"]
    assert segxai("show", "r.h5").status == 0
    assert "the result holds no run yet" in refused("export", "r.h5", "maps")
    assert "the result holds no run yet" in refused("rerun", "r.h5")


def test_folders_that_cannot_be_made(case):
    for command in (["export", "r.h5", "r.h5/maps"], ["show", "r.h5", "--png", "r.h5/maps"]):
        assert "r.h5/maps" in refused(*command)


def test_files_of_an_export_that_cannot_be_written(case):
    for name in ("labels.nii.gz", "gradient-mean.csv"):
        shutil.rmtree("maps", ignore_errors=True)
        Path("maps", name).mkdir(parents=True)
        assert f"cannot write maps/{name}" in segxai("export", "r.h5", "maps").error
    Path("maps/gradient-mean-2.png").mkdir()
    assert "maps/gradient-mean-2.png" in segxai("show", "r.h5", "--png", "maps").error


def test_a_picture_that_cannot_be_written(drawn, case):
    Path("r.png").unlink()
    Path("r.png").mkdir()
    assert "cannot write r.png" in segxai(*run()).error


def test_a_rerun_names_the_file_that_is_missing_or_changed(case):
    Path("away").mkdir()
    Path("other.nii.gz").rename("away/another.nii.gz")
    assert "no file other.nii.gz in ." in refused("rerun", "r.h5")
    shutil.copy("bright.nii.gz", "other.nii.gz")
    error = refused("rerun", "r.h5")
    assert "other.nii.gz is not the file" in error


# -------------------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(case):
    """A file system of 800 kB below the current folder; the result is on it."""
    Path("disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=800k", "segxai", "disk"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small file system")
    try:
        yield Path("disk")
    finally:
        subprocess.run(["umount", "--lazy", "disk"], check=True)


def test_a_full_disk_leaves_what_was_finished(small_disk):
    command = run("--method", "smoothgrad", "--samples", "1", out="disk/r.h5")
    assert segxai(*command, "--instances", "4").status == 0
    before = snapshot("disk/r.h5")
    free = os.statvfs("disk").f_bavail * os.statvfs("disk").f_frsize
    (small_disk / "ballast").write_bytes(bytes(free - 20_000))
    error = segxai(*command, "--append").error
    assert "cannot write disk/r.h5" in error
    assert "kB free" in error
    assert "what was finished is kept" in error
    assert_same(snapshot("disk/r.h5"), before)
    assert {path.name for path in small_disk.iterdir()} == {"r.h5", "r.png", "ballast"}
    (small_disk / "ballast").unlink()
    assert segxai(*command, "--append").status == 0
    assert len(snapshot("disk/r.h5")) > len(before)


def test_a_limit_on_file_size_leaves_what_was_finished(case):
    before = snapshot("r.h5")
    limit = Path("r.h5").stat().st_size + 2000
    done = subprocess.run(
        [*SEGXAI, *run("--append", "--aggregator", "signed_max")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert line.startswith("segxai: error: cannot write r.h5")
    assert os.strerror(errno.EFBIG) in line
    assert_same(snapshot("r.h5"), before)
    assert not list(Path().glob(".*"))


# ------------------------------------------------------------------------------------------ bugs


def test_a_bug_of_a_plugin_keeps_its_traceback(case):
    done = process(*run(plugin="toy_bug", out="new.h5"))
    assert done.status == 1
    assert "Traceback" in done.err
    assert done.err.strip().splitlines()[-1] == "RuntimeError: a bug of the plugin"


def test_a_plugin_that_fails_to_load_is_named_with_its_package(case, monkeypatch):
    entry_points = "[segxai.adapters]\nbroken = broken_module\n"
    source = "import sys\nsys.exit('a wish to leave')"
    package(Path("site").absolute(), entry_points, broken_module=source)
    install_package(monkeypatch, Path("site").absolute())
    error = refused(*run(plugin="broken", out="new.h5"))
    assert error == (
        "adapter 'broken' of stranger 0.3 (broken_module) fails to load: "
        "SystemExit: a wish to leave"
    )
    assert "broken_module" not in sys.modules


def test_a_bad_header_is_no_bug(case):
    image = nib.load("bright.nii.gz")
    image.header["srow_x"] = 0
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    nib.save(nib.Nifti1Image(image.get_fdata(), None, image.header), "flat.nii.gz")
    error = refused(*run(images=["flat.nii.gz", "other.nii.gz"], out="new.h5"))
    assert "unusable affine" in error
