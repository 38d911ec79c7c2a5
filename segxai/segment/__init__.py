"""Segment: what a network predicts on an image, through its windows."""
