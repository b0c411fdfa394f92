"""Parts that make a page one file: it needs no network and runs only its own scripts.

    json_block(value)            # JSON for <script type="application/json">: cannot end the element, cannot be markup
    library()                    # Vega, Vega-Lite and their interpreter of expressions, as one script
    policy(scripts, styles)      # a content security policy that admits exactly these inline scripts and styles

The library comes out of vl-convert, which bundles it offline; bundling takes seconds, so the script is kept in the
cache folder under vl-convert's version, with its SHA-256, which is checked whenever it is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import metadata, resources

from markupsafe import Markup

from lossgap.corpus.cache import cache_folder, store

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}

NOTICE = (
    "The charts are drawn by Vega, Vega-Lite and Vega-Embed, (c) University of Washington Interactive Data Lab and "
    "contributors, BSD 3-Clause License, with D3, (c) Mike Bostock, ISC License."
)


def json_block(value: object) -> Markup:
    """`value` as JSON in which `<`, `>`, `&` and all that is not ASCII are escaped. Raises ValueError for NaN."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))  # escaped on this line


def resource(name: str) -> str:
    """A file of `report/templates/`."""
    return resources.files("lossgap.report").joinpath("templates", name).read_text(encoding="utf-8")


def script(name: str) -> str:
    """A script of `report/templates/` in a block of its own, so that two may use one name; drawing.js is bare."""
    text = resource(name)
    return text if name == "drawing.js" else f"{{\n{text}}}\n"


@cache
def library() -> str:
    """The script that defines `window.vegaEmbed`."""
    path = cache_folder() / "page" / f"vega-{metadata.version('vl-convert-python')}.js"
    kept = _kept(path.read_bytes()) if path.is_file() else None
    if kept is not None:
        return kept
    import vl_convert

    script = str(vl_convert.javascript_bundle(_SNIPPET))
    assert _is_inert(script), "the bundle would end its own element"
    body = script.encode()
    store(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    return script


def _kept(content: bytes) -> str | None:
    """The script of a cache file; None if it is not what was stored."""
    digest, _, body = content.partition(b"\n")
    return body.decode() if digest == hashlib.sha256(body).hexdigest().encode() else None


def _is_inert(script: str) -> bool:
    """True if a script can stand in its element as it is (HTML: restrictions for contents of script elements)."""
    lowered = script.lower()
    return not any(word in lowered for word in ("<!--", "<script", "</script", "\r"))


def inline(text: str) -> Markup:
    """A script or style of ours as it is."""
    assert _is_inert(text)
    assert "</style" not in text.lower()
    return Markup(text)  # ours, not a stranger's


def policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Nothing is loaded from anywhere; only inline scripts and styles with these exact texts count."""
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(map(_source, scripts)) or "'none'",
        "style-src": " ".join(map(_source, styles)),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
