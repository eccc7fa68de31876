"""`landfall page`: the page of the loop, opened in a browser with the key of this home."""

from __future__ import annotations

import os
import webbrowser
from html import escape
from pathlib import Path

from landfall.host import keys, running
from shared import settings
from shared.errors import Refused

FILE = "page.html"


def open_page(*, browser: bool = True) -> Path:
    """Write a file that leads to the page, readable by its owner only, and open it; returns the file.

    The key is in that file, and not in a command line, which others on the machine may read; it goes on to the page
    behind ``#``, which no browser sends anywhere. Raises :class:`~shared.errors.Refused` when no host is up.
    """
    loaded = settings.load()
    if loaded.backend != "local":
        raise Refused("LANDFALL_BACKEND is not local; an app on Azure has its page at /api/page, with a function key")
    host = running(loaded.home)
    if host is None:
        raise Refused(f"no host is up for {loaded.home}; start one with landfall up, and ask again")
    address = escape(f"{host.url}/api/page#key={keys.load(loaded.home).function}")
    lead = loaded.home / FILE
    lead.unlink(missing_ok=True)
    with os.fdopen(os.open(lead, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">\n')
    if browser:
        webbrowser.open(lead.as_uri())
    return lead
