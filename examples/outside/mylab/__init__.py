"""A lab's own loss, backbone and dataset for recsys_lt."""
