"""Pages in one file: Jinja templates with style and script inside, which ask nothing of the network."""

import base64
import hashlib
import json
import math
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pipeline.numbers import is_number

_FOLDER = files("pipeline.reports") / "templates"


_DASH = "\N{EN DASH}"


def render(template: str, **values: Any) -> bytes:
    """Render a template of `templates/` as a whole HTML page.

    Whatever stands in `values` is text: it is escaped where it is shown, and in JSON too. The page's own style and
    script are named by their digests in its content security policy, so that nothing else in it could run, and nothing
    is fetched.

    Args:
        template: name of a file.
        values: its variables; `shown`, as `gallery` makes it, is handed to the script as JSON.
    """
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number, "colour": colour}
    style, script = _source("page.css"), _source("gallery.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    data = Markup(_json(values["shown"]))
    page = environment.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=Markup(policy), data=data, **values
    )
    return page.encode()


def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(data: Any) -> str:
    """Write JSON that can stand in a <script>: no `<` in it could end that."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _finite(value: Any) -> Any:
    """Put None in the place of NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percent(share: object) -> str:
    """Write a share of 0 .. 1 in percent; a dash for what is no number."""
    if not isinstance(share, int | float) or not is_number(share):
        return _DASH
    return f"{100 * share:.1f} %" if share >= 0.0005 else "0 %" if share == 0 else "< 0.1 %"


def number(value: object) -> str:
    """Write a number with thousands apart; a dash for what is none."""
    if not isinstance(value, int | float) or not is_number(value):
        return _DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def colour(rgb: tuple[int, int, int]) -> str:
    """Write a colour for CSS and SVG."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)
