"""Runs: the request, its checks and its cost before the work starts, and what is recorded."""
