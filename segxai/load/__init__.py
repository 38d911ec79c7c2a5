"""Load: image files as arrays on a grid, normalised for a network. Imports no torch."""
