"""The HTML page: template, style sheet and the vendored script that sorts tables."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from recsys_lt.results.plots.palette import css
from recsys_lt.results.report.figures import swatch

_SORTING = "vendored/sortable-tablesort-4.1.7.auto.min.js"


def page(**content: Any) -> str:
    """The HTML file, of the variables of ``report.html.j2``."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["swatch"] = lambda styled: swatch(styled.look)
    script = _read(_SORTING).strip()
    light, dark = css()
    return environment.get_template("report.html.j2").render(
        **content,
        style=Markup(_read("style.css")),
        light=Markup(light),
        dark=Markup(dark),
        script=Markup(script),
        # Nothing but this one script may run, and nothing may be fetched: reports get passed around.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
