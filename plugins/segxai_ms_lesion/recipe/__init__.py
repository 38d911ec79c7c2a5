"""How the embedded weights and the embedded case were made.

`train` makes the weights, `embedded_case` the phantom, `evaluate` scores the test patient.
"""
