"""Optimizers: update rules around a torch optimizer, learning-rate schedules, item weights, gradient clipping."""
