"""The comparison of methods across networks: what is read from tables, what is written."""

import numpy as np
import pandas as pd
import pytest

from architectures import agreement
from architectures.page import fill, table
from segxai import SegxaiError


def compared(folder, *rows):
    columns = ["first", "second", "instance", "channel", "metric", "value", "floor", "ceiling"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "compare.csv", index=False)
    return agreement.read(folder)


def test_pairs_are_averaged_and_second_seeds_left_out(tmp_path):
    pairs = compared(
        tmp_path,
        ("a gradient mean", "b rise, seed 0", 1, "x", "cosine", 0.2, 0.0, 1.0),
        ("a gradient mean", "b rise, seed 0", 2, "x", "cosine", 0.6, 0.2, 0.5),
        ("a gradient mean", "b rise, seed 1", 1, "x", "cosine", 1.0, 1.0, 1.0),
        ("a gradient mean", "b rise, seed 0", 1, "x", "ssim", 0.9, 0.9, 0.9),
        ("a gradient mean", None, 1, "x", "energy_inside", 0.9, None, None),
    )
    (row,) = agreement.means(pairs, "cosine").to_dict("records")
    assert (row["first_network"], row["second_network"]) == ("a", "b")
    assert (row["first_method"], row["second_method"]) == ("gradient mean", "rise")
    assert [row[name] for name in ("value", "floor", "ceiling")] == pytest.approx([0.4, 0.1, 0.75])
    matrix = agreement.square(agreement.means(pairs, "cosine"), ["rise", "gradient mean"], "value")
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(0.4)
    assert np.isnan(matrix.diagonal()).all()


def test_in_a_family_each_two_are_alike():
    """The chain a, b, c is no family: a and c are not alike."""
    matrix = np.array([[1, 0.9, 0.1, 0], [0.9, 1, 0.8, 0], [0.1, 0.8, 1, 0], [0, 0, 0, 1]])
    assert agreement.families(matrix, "abcd", 0.7) == [["a", "b"], ["c"], ["d"]]
    assert agreement.families(matrix, "abcd", 0.1) == [["a", "b", "c"], ["d"]]


def test_numbers_are_filled_in_twice_and_the_text_is_kept(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- one -->\n<!-- end one -->\n\nafter\n")
    for value in (0.123, float("nan")):
        fill(page, "one", table(["name", "x"], [["a", value]]))
    lines = ["<!-- one -->\n", "| name | x |", "| --- | --- |", "| a |  |\n", "<!-- end one -->"]
    assert page.read_text() == "\n".join(["before\n", *lines, "\nafter\n"])
    with pytest.raises(SegxaiError, match="has no place for 'two'"):
        fill(page, "two", "")
