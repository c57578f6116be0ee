"""Generative recommenders: items as sequences of tokens, and the decoding of them."""
