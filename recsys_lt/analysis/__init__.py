"""What is made of results: bounds, plots, tables, significance."""
