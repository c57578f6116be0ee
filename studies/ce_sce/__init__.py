"""The tables and figures of the CE/SCE paper (arXiv 2402.06216), made again from anybody's runs."""
