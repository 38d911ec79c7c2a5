"""Load: image files as arrays on a grid, normalised as a network takes them. No torch here."""
