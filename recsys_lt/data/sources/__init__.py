"""Where a dataset's files come from: a folder, an official host, the package index, or a seed."""
