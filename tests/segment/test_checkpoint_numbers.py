"""Checkpoints of strangers: numbers beside the weights are read, and nothing of numpy is called."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segxai import SegxaiError, read_tensors
from segxai.segment.checkpoint_numbers import FORMATS

DTYPE, SCALAR = np.float64(0).__reduce__()[1][0].__reduce__()[0], np.float64(0).__reduce__()[0]
F8 = np.dtype("f8")
FIELDS = (3, "<", None, ("a",), {"a": (F8, 2**20)}, 8, 1, 0)  # outside of the number
OBJECTS = (3, "<", None, None, None, 8, 1, 63)  # bytes are taken for the addresses of objects
SUBARRAY = (3, "<", (F8, (2**20,)), None, None, 8, 1, 0)


class Called:
    """What calls a function on loading, and then fills what it returned with a state."""

    def __init__(self, function, *arguments, state=None):
        self.content = (function, arguments, *([] if state is None else [state]))

    def __reduce__(self):
        return self.content


def read(content, path=Path("w.pt")):
    torch.save(content, path)
    return read_tensors(path)


pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("kind", FORMATS)
def test_numbers_beside_the_weights_become_pythons(kind):
    value = np.dtype(kind).type(1)
    found = read({"weights": torch.ones(2), "best": value, "all": [value, [value]]})
    assert found["best"] == value.item()
    assert type(found["best"]) is type(value.item())
    assert found["all"] == [1, [1]]


def test_files_of_older_numpy_are_read():
    path = Path("w.pt")
    torch.save({"best": np.float32(0.25)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multi", b"numpy.core.multi"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert read_tensors(path) == {"best": 0.25}


@pytest.mark.parametrize("kind", ["O", "V8", "S8", "U8", "M8", "c16", [("a", "O")], "f8, O", 8])
def test_no_other_kind_of_number_is_read(kind):
    with pytest.raises(SegxaiError, match=r"checkpoint w.pt: ") as caught:
        read({"best": Called(DTYPE, kind, False, True)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [FIELDS, OBJECTS, SUBARRAY, {"a": 1}, (None, {"a": 1})])
def test_the_state_of_a_kind_is_ignored(state):
    """Numpy takes addresses from it."""
    kind = Called(DTYPE, "f8", False, True, state=state)
    found = read({"best": Called(SCALAR, kind, np.float64(0.5).tobytes())})
    assert found == {"best": 0.5}
    assert type(found["best"]) is float


@pytest.mark.parametrize("arguments", [(F8, b"1234"), (F8, "12345678"), ("f8", b"12345678"), (F8,)])
def test_a_number_is_made_of_its_kind_and_bytes(arguments):
    with pytest.raises(SegxaiError, match=r"checkpoint w.pt: ") as caught:
        read({"best": Called(SCALAR, *arguments)})
    assert "\n" not in str(caught.value)


def test_what_libraries_allow_for_themselves_is_not_called():
    """MONAI allows its tensors with metadata, whose state may be anything, when it is imported."""
    before = set(torch.serialization.get_safe_globals())
    with (
        torch.serialization.safe_globals([Path]),
        pytest.raises(SegxaiError, match="pathlib.*Path beside tensors"),
    ):
        read({"best": Called(Path, "a")})
    assert set(torch.serialization.get_safe_globals()) == before
