"""Folders of models, broken: `python -m tests.fuzz.folders --cases 500 --seed 0`."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.fuzz.bytes import Rng, break_bytes, pick
from tests.fuzz.outcomes import Try, main

WRONG = (None, True, -1, 0, 3, 2.5, 1e300, 10**30, "", "no", "../x", [], [[]], ["x"], {}, [-1, 99])
END = ("--method", "gradient", "--rows", "2", "--out", "out.h5", "--device", "cpu")


def fuzz(rng: Rng, folder: Path) -> Try:
    """Copy a good folder, break one of its files, and explain its model."""
    kind = pick(rng, tuple(KINDS))
    shutil.copytree(_good(kind), folder, dirs_exist_ok=True)
    files = sorted(one for one in (folder / "model").rglob("*") if one.is_file())
    texts = [one for one in files if one.suffix == ".json"]
    if rng.random() < 0.75:
        what = _change(rng, pick(rng, texts))
    elif rng.random() < 0.3:
        path = pick(rng, files)
        path.unlink()
        what = f"{path.name} is missing"
    else:
        what = break_bytes(rng, pick(rng, files))
    return Try((*COMMANDS[kind], *END), ("out.h5", "out.png"), f"{kind}: {what}")


@cache
def _good(kind: str) -> Path:
    folder = Path(tempfile.mkdtemp())
    KINDS[kind](folder)
    return folder


def _nnunet(folder: Path) -> None:
    from tests.nnunet import folders

    folders.trained_model(folder / "model")
    folders.files(folder)


def _transformers(folder: Path) -> None:
    from tests.natural_image import models

    models.segformer(folder / "model")
    models.picture(folder / "a.png")


def _bundle(folder: Path) -> None:
    import nibabel as nib
    import numpy as np
    import torch

    from tests.fuzz.models import volume

    data = np.random.default_rng(0).normal(size=(8, 9, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), folder / "a.nii")
    for name in ("configs", "models"):
        (folder / "model" / name).mkdir(parents=True)
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2}
    network |= {"kernel_size": 3, "padding": 1}
    inferer = {"_target_": "monai.inferers.SlidingWindowInferer", "roi_size": [8, 8, 8]}
    config = {"network_def": network, "inferer": inferer}
    (folder / "model/configs/inference.json").write_text(json.dumps(config))
    one = {"num_channels": 1, "channel_def": {"0": "image"}}
    two = {"num_channels": 2, "channel_def": {"0": "no", "1": "yes"}}
    formats = {"inputs": {"image": one}, "outputs": {"pred": two}}
    metadata = {"name": "b", "version": "1", "network_data_format": formats}
    (folder / "model/configs/metadata.json").write_text(json.dumps(metadata))
    torch.save(volume().state_dict(), folder / "model/models/model.pt")


KINDS: dict[str, Callable[[Path], None]] = {
    "nnunet": _nnunet,
    "transformers": _transformers,
    "bundle": _bundle,
}
COMMANDS = {
    "nnunet": ("run", "--plugin", "nnunet", "t1w.nii.gz", "flair.nii.gz", "--checkpoint", "model"),
    "transformers": ("run", "--plugin", "natural_image", "a.png", "--checkpoint", "model"),
    "bundle": ("run", "a.nii", "--bundle", "model", "--trust"),
}


def _change(rng: Rng, path: Path) -> str:
    """Replace, remove or add a value of a JSON file, anywhere in it."""
    content = json.loads(path.read_text())
    places = list(_places(content))
    if not places:
        return "nothing"
    part, key = pick(rng, places)
    if rng.random() < 0.2:
        del part[key]
        value = "removed"
    else:
        value = part[key] = pick(rng, WRONG)
    path.write_text(json.dumps(content))
    return f"{path.name}: {key} is {value!r}"


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


if __name__ == "__main__":
    main(fuzz)
