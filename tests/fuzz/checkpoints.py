"""Files of weights, broken: `python -m tests.fuzz.checkpoints --cases 500 --seed 0`."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import save_file

from tests.fuzz.bytes import Rng, break_bytes, pick
from tests.fuzz.models import volume
from tests.fuzz.outcomes import Try, main

COMMAND = ("run", "a.nii", "--model", "tests.fuzz.models:volume", "--channels", "image")
COMMAND += ("--classes", "no,yes", "--method", "gradient", "--rows", "2", "--out", "out.h5")
COMMAND += ("--device", "cpu", "--checkpoint")
CHECKED = ("check", "ms_lesion", "--checkpoint")  # another reader


def fuzz(rng: Rng, folder: Path) -> Try:
    """Write weights and an image to a folder, break the weights, and explain their model."""
    data = np.random.default_rng(0).normal(size=(8, 9, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), folder / "a.nii")
    path = folder / pick(rng, ("w.pt", "w.pth", "w.safetensors"))
    content: dict[str, Any] = dict(volume().state_dict())
    what = "" if rng.random() < 0.4 else _change(rng, content)
    if path.suffix == ".safetensors":
        save_file({name: one for name, one in content.items() if _is_plain(one)}, path)
    else:
        content = {"state_dict": content, "best": np.float64(0.5)}
        torch.save(content, path, _use_new_zipfile_serialization=bool(rng.random() < 0.6))
    if not what or rng.random() < 0.3:
        what = f"{what}; {break_bytes(rng, path)}"
    command = CHECKED if rng.random() < 0.1 else COMMAND
    return Try((*command, path.name), ("out.h5", "out.png"), what)


def _is_plain(value: Any) -> bool:
    """Tell whether safetensors can save a value."""
    is_dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return is_dense and value.device.type == "cpu"


def _change(rng: Rng, content: dict[str, Any]) -> str:
    """Replace a tensor by something else that torch can save."""
    name = pick(rng, tuple(content))
    values = _others(content[name])
    kind = pick(rng, tuple(values))
    content[name] = values[kind]
    return f"{name} is {kind}"


def _others(tensor: torch.Tensor) -> dict[str, Any]:
    return {
        "NaN": tensor * torch.nan,
        "huge": tensor * 1e38,
        "half": tensor.half(),
        "whole numbers": tensor.int(),
        "complex": tensor.to(torch.complex64),
        "empty": tensor[:0].clone(),
        "a number": torch.tensor(1.0),
        "sparse": tensor.to_sparse(),
        "on no device": tensor.to("meta"),
        "stretched": torch.zeros(1).expand(tensor.shape).clone(),
        "vast": torch.zeros((10**6, 1)).expand(-1, 7)[:, :1].clone(),
        "no tensor": [1, 2],
        "text": "weights",
        "a mapping": {"a": tensor},
    }


if __name__ == "__main__":
    main(fuzz)
