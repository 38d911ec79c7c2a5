"""Synthetic lesions: what a model says of one that is moved, or made up (section 3.4)."""
