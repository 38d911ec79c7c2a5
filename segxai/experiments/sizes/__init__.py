"""Sizes: how a map's peak depends on the lesion's size (section 3.1)."""
