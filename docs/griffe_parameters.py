"""Extension of griffe, which reads the docstrings of the reference.

Where a docstring describes several parameters together, griffe gives all of them the type and the
default of the first. Here each gets its own from the signature.
"""

from typing import Any

import griffe


class Parameters(griffe.Extension):
    """Types and defaults from the signature."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Fix the docstring of a function."""
        _mend(func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Fix the docstring of a class."""
        _mend(cls)


def _mend(described: griffe.Function | griffe.Class) -> None:
    if described.docstring is None:
        return
    signature = {one.name: one for one in described.parameters}
    for section in described.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.parameters:
            before = None
            for one in section.value:
                if one.description == before and one.name in signature:
                    one.value = signature[one.name].default
                    one.annotation = signature[one.name].annotation
                before = one.description
