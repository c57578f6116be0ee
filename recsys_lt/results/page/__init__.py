"""The page itself: template, style and what is vendored, filled in."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from recsys_lt.results.illustration import swatch
from recsys_lt.results.palette import css

if TYPE_CHECKING:
    from recsys_lt.results.cast import Member

_SORTING = "vendored/sortable-tablesort-4.1.7.auto.min.js"


def page(**content: Any) -> str:
    """The whole HTML file.

    Parameters
    ----------
    content
        What ``report.html.j2`` asks for.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["swatch"] = _swatch
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


def _swatch(member: Member) -> Markup:
    return swatch(member.colour.light, member.dash, member.mark)
