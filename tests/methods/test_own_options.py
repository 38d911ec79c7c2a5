"""Options of a method's own: words and values become the declared types, or are refused."""

from dataclasses import dataclass, replace

import pytest

from segxai.errors import SegxaiError
from segxai.methods.own_options import own_options
from segxai.methods.smoothgrad import segxai_method


@dataclass(frozen=True)
class Own:
    """Options of several types."""

    steps: int = 1
    sizes: tuple[float, ...] = ()
    centred: bool = False


METHOD = replace(segxai_method("smoothgrad"), options=Own)


def test_words_become_the_declared_types():
    given = {"steps": "3", "sizes": "1,2.5", "centred": "yes"}
    assert own_options(METHOD, given) == Own(3, (1.0, 2.5), True)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1.5), ("steps", None), ("steps", "a"), ("centred", "perhaps")]
)
def test_another_type_is_refused(name, value):
    with pytest.raises(SegxaiError, match=f"{name}={value}: method .* wants (int|bool)"):
        own_options(METHOD, {name: value})
