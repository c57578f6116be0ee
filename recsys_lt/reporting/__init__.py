"""The pieces of ``python -m recsys_lt.report``: one self-contained HTML file about some runs."""
