"""Outcomes: whether the extremes of maps tell right from wrong (section 3.3)."""
