"""How the embedded weights and the embedded case were made.

`bank` makes training cases and `train` the weights, `curve` draws how they improved, `validate`
scores and calibrates them by load, `evaluate` scores the test patient, `embedded_case` makes the
phantom.
"""
