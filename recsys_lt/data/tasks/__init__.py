"""Tasks: what a training example is."""
