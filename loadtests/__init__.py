"""Measurements: the bare model, the server under load, Vim against DeiT."""
