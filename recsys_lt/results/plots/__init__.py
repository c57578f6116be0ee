"""Figures of runs and of the report in one style."""
