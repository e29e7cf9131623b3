"""What all our pages are made of: templates, one style sheet, one script of several parts, and a strict policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tuneoff.encoding import visible

PACKAGE = "tuneoff.report"
STYLE = "report.css"


def render_page(
    template: str, parts: Sequence[str], packages: Sequence[str] = (), connect: bool = False, **values: Any
) -> str:
    """Renders a page that holds its own style and script. Jinja escapes every text.

    Args:
        template: the template's name in the folder `page` of this package or of another one.
        parts: names of the scripts' parts in such folders, in order.
        packages: further packages with such a folder.
        connect: let the script ask the server that the page came from.
        values: what the template shows.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "page") for package in (PACKAGE, *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    style = _source(environment, STYLE)
    # In one function, so that the parts share names with each other alone.
    script = "\n".join(
        ['"use strict";', "(() => {", *(_source(environment, f"{name}.js") for name in parts), "})();", ""]
    )
    return (
        environment.get_template(template).render(
            policy=_policy(style, script, connect), style=Markup(style), script=Markup(script), **values
        )
        + "\n"
    )


def _shown(value: object) -> object:
    """Shows hidden characters of texts, which could turn the direction of what follows them."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, script: str, connect: bool) -> str:
    """Returns a policy that lets this style sheet and this script work, and nothing else, and nothing be loaded."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        + ("connect-src 'self'; " if connect else "")
        + "base-uri 'none'; form-action 'none'"
    )
