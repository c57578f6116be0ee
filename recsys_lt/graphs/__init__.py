"""Recommenders made of graphs of the items."""
