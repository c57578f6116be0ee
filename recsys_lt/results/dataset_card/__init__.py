"""The dataset card: what a dataset holds, and which signals a recommender can use on it."""
