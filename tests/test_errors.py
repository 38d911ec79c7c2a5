import warnings

import pytest

from segxai.errors import SegxaiWarning, collecting, option, warn


def raised(*texts):
    """The warnings that Python shows, with all that were raised before shown again."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for text in texts:
            warn(text)
    return shown


def test_a_warning_names_options_in_the_words_of_each_door():
    with pytest.warns(SegxaiWarning, match="^give samples=5$") as shown:
        warn(f"give {option('samples', 5)}")
    (one,) = shown
    assert one.message.text == f"give {option('samples', 5)}"


def test_a_run_collects_each_warning_once_and_shows_it_once():
    with collecting() as texts:
        shown = raised("a", "b", "a")
    assert texts == ["a", "b"]
    assert [str(one.message) for one in shown] == ["a", "b"]
    assert len(raised("a", "a")) == 2  # nothing is collected any more


def test_a_step_collects_what_the_run_has_shown_before():
    with collecting() as run:
        raised(f"no {option('layer')}")
        with collecting() as step:
            assert raised("no layer") == []
        raised("later")
    assert step == ["no layer"]
    assert run == ["no layer", "later"]


def test_a_collection_ends_where_its_block_fails():
    with pytest.raises(ValueError, match="a bug"), collecting() as texts:
        raise ValueError("a bug")
    raised("afterwards")
    assert texts == []
