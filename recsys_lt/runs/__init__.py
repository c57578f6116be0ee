"""The run folder: what is stored in it, how it is read, and what a sweep's folders say."""
