"""Vim against DeiT, bare and over HTTP."""
