"""One run as a recipe: configuration to objects, the runs it needs first, training, test, evidence."""
