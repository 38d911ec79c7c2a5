"""Report: tables, pictures and exported files of a result. Imports no torch."""
