"""Numbers and facts in words."""

import pytest

from segxai import text


@pytest.mark.parametrize(
    ("written", "number", "text"),
    [
        (text.volume, 93.04, "93.0"),
        (text.volume, 38608.2, "38608"),
        (text.probability, 0.873, "0.87"),
        (text.significant, 0.0, "0"),
        (text.significant, 0.12, "0.120"),
        (text.significant, -12.345, "-12.3"),
        (text.significant, 123.4, "123"),
        (text.significant, 999.7, "1000"),
        (text.significant, 12345.6, "12346"),
        (text.significant, 1.234e-7, "1.23e-07"),
        (text.significant, float("nan"), "nan"),
        (text.duration, 0.2, "1 s"),
        (text.duration, 600, "10 min"),
        (text.duration, 9000, "2.5 h"),
        (text.size, 1.5e9, "1.5 GB"),
        (text.size, 12, "0.0 kB"),
    ],
)
def test_numbers_in_words(written, number, text):
    assert written(number) == text


def test_facts_in_lines():
    facts = {
        "a_b": 1,
        "none": None,
        "list": [0.1234567, "x"],
        "empty": [],
        "flat": {"one_two": 1, "three": None},
        "deep": {"x": [1, 2], "y": [{"n": 1, "m": 2}, {"n": 3, "m": 4}]},
    }
    assert list(text.fact_lines(facts)) == [
        "a b: 1",
        "none: none",
        "list: 0.123457, x",
        "empty: none",
        "flat: one two 1, three none",
        "deep:",
        "  x: 1, 2",
        "  y:",
        "    n 1, m 2",
        "    n 3, m 4",
    ]
