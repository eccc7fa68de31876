"""Manifests of prepared features: where they are, and what they say."""

from __future__ import annotations

import json

from shared.domain.records import from_record
from shared.errors import Rejected
from shared.ports.feature_engine import Manifest
from shared.ports.lake import Lake


def place(folder: str) -> str:
    """The path of the manifest of a run's features in ``folder``."""
    return f"{folder}/manifest.json"


def read(lake: Lake, path: str) -> Manifest:
    """The manifest at ``path``.

    Raises Missing when it is not there (yet), Rejected when it is none, whoever wrote it.
    """
    text = lake.read(path)
    try:
        return from_record(Manifest, json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Rejected(f"{path} is no manifest ({error!r}): only the features job may write there") from error
