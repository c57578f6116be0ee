"""HTML pages of one file: templates, style and the script that sorts tables."""

from __future__ import annotations

import base64
import datetime
import hashlib
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from recsys_lt.results.field_terms import term
from recsys_lt.results.plots.drawing import COLOURS
from recsys_lt.results.report.figures import swatch
from recsys_lt.system.package import __version__

_SORTING = "vendored/sortable-tablesort-4.1.7.auto.min.js"


def rendered(template: str, **content: Any) -> str:
    """A page of the variables of its template, a file of ``page/``; nothing in it is fetched from anywhere."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def read(name: str) -> str:
        return files("recsys_lt.results.report").joinpath("page", name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["term"] = term
    environment.filters["swatch"] = lambda styled: swatch(styled.look)
    script = read(_SORTING).strip()
    return environment.get_template(template).render(
        **content,
        version=__version__,
        day=datetime.date.today().isoformat(),
        style=Markup(read("style.css")),
        colours=COLOURS,
        script=Markup(script),
        # Nothing but this one script may run, and nothing may be fetched: reports get passed around.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
