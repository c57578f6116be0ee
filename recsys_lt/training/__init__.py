"""Training of one run: objects from its configuration, the runs it needs first, training, test and results."""
