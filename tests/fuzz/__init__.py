"""Seeded fuzzers of the files that people send each other: one module for each kind of file.

`python -m tests.fuzz.results --cases 500 --seed 0` takes minutes, so the test run only tries a few.
"""
