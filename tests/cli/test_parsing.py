"""What the words of a command mean: files, instances, spheres."""

from pathlib import Path

import pytest

from segxai.cli.parsing import are_labels, files_by_channel, labels_of, parse_spheres, source_of
from segxai.errors import SegxaiError
from segxai.run.options import Mask


def test_files_by_order_and_by_name():
    channels = ("flair", "mprage")
    expected = {"flair": Path("a"), "mprage": Path("b")}
    assert files_by_channel(["a", "b"], channels) == expected
    assert files_by_channel(["flair=a", "mprage=b"], channels) == expected
    turned = files_by_channel(["mprage=b", "flair=a"], channels)
    assert turned == expected
    assert list(turned) == ["flair", "mprage"]


def test_a_file_may_have_an_equals_sign_in_its_name(folder):
    Path("te=90.nii").touch()
    assert files_by_channel(["te=90.nii"], ("flair",)) == {"flair": Path("te=90.nii")}
    assert files_by_channel(["flair=te=90.nii"], ("flair",)) == {"flair": Path("te=90.nii")}
    with pytest.raises(SegxaiError, match="unknown channel 'te'"):
        files_by_channel(["te=80.nii"], ("flair",))


def test_a_selection_of_instances(folder):
    Path("1").touch()
    assert are_labels("all")
    assert labels_of("all") is None
    assert are_labels("5, 1,5")
    assert labels_of("5, 1,5") == (1, 5)
    assert labels_of("1") == (1,)
    assert not are_labels("./1")
    assert source_of("./1", split=True) == Mask(Path("1"), split=True)
    with pytest.raises(SegxaiError, match="split=True cuts a mask"):
        source_of(None, split=True)


def test_words_become_numbers():
    assert parse_spheres("sphere:1,-2.5,3e1,4") == ((1.0, -2.5, 30.0, 4.0),)
    assert parse_spheres("sphere:1,2,3:4,5,6") == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


@pytest.mark.parametrize(
    "text", ["sphere:", "sphere:1", "sphere:1,2,x", "sphere:1,2,3:", "sphere:,", "ball:1,2,3,4"]
)
def test_other_words_are_refused(text):
    with pytest.raises(SegxaiError, match=f"instances={text}"):
        parse_spheres(text)
