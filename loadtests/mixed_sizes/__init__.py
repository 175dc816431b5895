"""Packing against other ways to batch images of mixed sizes."""
