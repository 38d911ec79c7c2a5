"""The kit sees an adapter whose runs cannot be repeated."""

from dataclasses import replace
from itertools import count

from torch import nn

from segxai.plugins.adapter import Adapter
from segxai.types import Source
from tests.testing.checks import REPEATED, broken, findings
from tests.toy.segxai_toy import TOY, Toy, bare_case, picture


def test_without_an_embedded_case_there_is_nothing_to_repeat():
    found = findings(replace(TOY, embedded_case=Adapter.embedded_case))[REPEATED]
    assert found.detail == "skipped, there is no embedded case"


def test_a_network_that_depends_on_how_often_it_was_loaded_is_caught():
    """Its weights are the same every time: what differs is outside of them."""
    loaded = count()

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.factor = Toy(), 1 + 0.01 * next(loaded)

        def forward(self, image):
            return self.factor * self.inner(image)

    wrong = broken(replace(TOY, load_network=Scaled, layer=None))
    assert list(wrong) == [REPEATED]
    assert "of its peak off when it is repeated" in wrong[REPEATED]


def test_an_embedded_case_from_other_files_every_time_is_caught():
    number = count()

    def case():
        source = Source("bright", "bright.nii.gz", f"{next(number):064d}")
        return replace(bare_case(picture()), sources=(source,))

    wrong = broken(replace(TOY, embedded_case=case))
    assert list(wrong) == [REPEATED]
    assert "no file bright.nii.gz in" in wrong[REPEATED]


def test_a_record_that_changes_is_caught():
    """As notes with a date in them."""
    number = count()

    def case():
        return replace(bare_case(picture()), notes=(f"prepared {next(number)} times",))

    wrong = broken(replace(TOY, embedded_case=case))
    assert list(wrong) == [REPEATED]
    assert "prepared again, the same run differs: case notes is" in wrong[REPEATED]
