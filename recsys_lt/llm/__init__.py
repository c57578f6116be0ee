"""Recommenders made of a language model."""
