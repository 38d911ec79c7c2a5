"""Rows: the exact gradients of an instance's output voxels with respect to the image."""
