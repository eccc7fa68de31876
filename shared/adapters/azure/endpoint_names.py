"""What endpoints are called on Azure, where no two in a region may have one name, whosever they are."""

from __future__ import annotations

import hashlib

LONGEST = 32


def online_endpoint(endpoint: str, workspace: str) -> str:
    """The name on Azure of what a pipeline calls ``endpoint``; ``workspace`` is Azure ML's, by its resource id."""
    return _of_workspace(endpoint, "", workspace)


def batch_endpoint(pipeline: str, workspace: str) -> str:
    """The name of a pipeline's batch endpoint; ``workspace`` is as above."""
    return _of_workspace(pipeline, "-batch", workspace)


def _of_workspace(name: str, kind: str, workspace: str) -> str:
    """The name, cut where it is too long, with a short digest of the whole of it and of where it is."""
    digest = hashlib.sha256(f"{workspace.lower()}/{name}".encode()).hexdigest()[:6]
    tail = f"{kind}-{digest}"
    return name[: LONGEST - len(tail)].rstrip("-") + tail
