"""Segmentation: the prediction of a network on an image, window by window."""
