"""Metrics of ranks and recommended lists: ranking, long tail, popularity bias."""
