"""Reading a case: which plane of a picture is which channel."""

from segxai.load.reader import order_of_colours


def test_planes_follow_the_names_of_channels():
    assert order_of_colours(("red", "green", "blue")) == (0, 1, 2)
    assert order_of_colours(("blue", "green", "red")) == (2, 1, 0)
    assert order_of_colours(("B", "G", "R")) == (2, 1, 0)
    assert order_of_colours(("one", "two", "three")) == (0, 1, 2)
