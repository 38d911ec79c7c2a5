"""Flags: whether maps tell false alarms from lesions, beyond volume and probability."""
