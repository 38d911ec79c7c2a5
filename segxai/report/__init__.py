"""Report: tables, pictures and exported files of a result. No torch here."""
