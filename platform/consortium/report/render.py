"""The templates in ``templates/``, and the one place that fills them; everything that they are given is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from consortium.common.terminal import printable
from consortium.report.words import own, parts


def render(template: str, **values: object) -> str:
    """A template, filled."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    loader = PackageLoader("consortium.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"parts": parts, "own": own, "printable": printable}
    return environment
