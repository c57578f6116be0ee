"""What a language model knows of a dataset's items before training, and what recommenders make of it."""
