"""Compare: maps of the same instances by other methods, models or seeds. Imports no torch."""
