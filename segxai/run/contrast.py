"""Contrasts: from the word that a user gives to what the score of an instance is compared with."""

from collections.abc import Sequence

from segxai.errors import SegxaiError, option, unknown_name
from segxai.methods.method import Method
from segxai.rows.weighted_score import BORDER

CLASS = "class:"


def check_contrast(text: str | None, method: Method) -> None:
    """Check that a method takes a contrast, and that its form is known.

    Raises
    ------
    SegxaiError
        If not.
    """
    if text is None:
        return
    if not method.takes_contrast:
        raise SegxaiError(
            f"method {method.name!r} does not explain one number for each instance: leave out "
            f"{option('contrast', text)}"
        )
    if text != BORDER and not text.startswith(CLASS):
        raise SegxaiError(
            f"{option('contrast', text)}: give {BORDER}, or {CLASS}NAME with the name of a class"
        )


def contrast_of(text: str | None, classes: Sequence[str] | None) -> str | int | None:
    """Find what a score is compared with: the border, or the number of a class.

    Parameters
    ----------
    classes : sequence of str, optional
        Names of the logits; if they are not known, a class is given by its number.

    Raises
    ------
    SegxaiError
        If the class is not known.
    """
    if text is None or text == BORDER:
        return text
    name = text.removeprefix(CLASS)
    if classes is not None and name in classes:
        return list(classes).index(name)
    if classes is None and name.isdecimal():
        return int(name)
    if classes is None:
        raise SegxaiError(
            f"{option('contrast', text)}: classes have no names here; give a number, such as "
            f"{CLASS}0"
        )
    raise unknown_name("class", name, classes)
