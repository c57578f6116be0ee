"""Where Hydra looks for sweepers: this namespace package alone."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Search(BasicSweeper):
    """The sweeper of ``+search=<model>``, imported when it is used: every command looks at this file."""

    def __new__(cls, **options: Any) -> Any:  # type: ignore[misc]
        from recsys_lt.cli import search

        return search.Search(**options)
