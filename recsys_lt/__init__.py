"""Honest, fast experiments in sequential recommendation."""

__version__ = "0.1.0"
