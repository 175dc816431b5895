"""Correctness and speed on a GPU."""
