"""The loop on one page, for a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import azure.functions as func

bp = func.Blueprint()


@bp.function_name("http_page")
@bp.route(route="page", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def http_page(req: func.HttpRequest) -> func.HttpResponse:
    """The page, which holds nothing: it asks for a function key, and with it the functions for what they know."""
    page, headers = _page()
    return func.HttpResponse(page, headers=headers, mimetype="text/html")


@cache
def _page() -> tuple[bytes, dict[str, str]]:
    """The page and its headers, which let a browser run the page's own script alone."""
    page = Path(__file__).with_suffix(".html").read_bytes()
    [script] = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    rules = (
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": rules,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
