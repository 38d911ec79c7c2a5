"""Plugins: the records that authors write, and how they are found."""
