"""Promises: what the rest of segxai relies on in an adapter, and how each is looked at."""
