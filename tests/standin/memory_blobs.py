"""A storage account in memory, for tests without a storage emulator: the few calls that Azure ML's clients make."""

from __future__ import annotations

import hashlib
import re
import threading
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

from tests.standin import identity
from tests.standin.http import Problem, Request, Response

SIGNATURE = "sv=2024-01-01&sig=of-the-stand-in"


class MemoryBlobs:
    """Block blobs of one account. Reading and writing takes a token for storage, or the signature of :meth:`sas`."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.files: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {}
        """Content and metadata by container and path."""
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        """Any call to the account's blob host."""
        if request.host != f"{self.account}.blob.core.windows.net":
            raise Problem(404, "ResourceNotFound", f"there is no account behind {request.host}")
        if request.query.get("sig") != "of-the-stand-in":
            identity.check(request, "https://storage.azure.com", "https://storage.azure.com/")
        container, _, path = request.path.lstrip("/").partition("/")
        with self._lock:
            if not path and request.query.get("comp") == "list":
                return self._list(container, request.query.get("prefix", ""))
            if request.method == "PUT" and path and request.headers.get("x-ms-blob-type") == "BlockBlob":
                return self._put(request, container, path)
            if request.method == "PUT" and path and request.query.get("comp") == "metadata":
                content, _ = self._content(container, path)
                self.files[container, path] = (content, _metadata(request))
                return Response(200, headers=_stamp(content))
            if request.method in ("GET", "HEAD") and path and "comp" not in request.query:
                return self._get(request, container, path)
        raise Problem(400, "UnsupportedInMemory", f"{request.method} {request.path} {request.query}: use the emulator")

    def ensure(self, container: str) -> None:
        """Nothing: every container is there."""

    def sas(self, container: str) -> str:
        """What lets clients in without a token."""
        return SIGNATURE

    def write(self, container: str, path: str, data: bytes) -> None:
        """Put a blob."""
        with self._lock:
            self.files[container, path] = (data, {})

    def read(self, container: str, path: str) -> bytes:
        """A blob."""
        with self._lock:
            return self.files[container, path][0]

    def delete(self, container: str, path: str) -> None:
        """Remove a blob."""
        with self._lock:
            del self.files[container, path]

    def etags(self, container: str) -> dict[str, str]:
        """All blobs of a container, and what their content is known by."""
        with self._lock:
            return {
                path: _stamp(content)["etag"]
                for (place, path), (content, _) in self.files.items()
                if place == container
            }

    def download(self, container: str, path: str, target: Path) -> int:
        """Bring a blob, or all blobs of a folder, to ``target``; returns how many there were."""
        path = path.rstrip("/")
        with self._lock:
            found = {
                name: content
                for (place, name), (content, _) in self.files.items()
                if place == container and (name == path or name.startswith(f"{path}/"))
            }
        for name, content in found.items():
            file = target if name == path else target / name[len(path) + 1 :]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return len(found)

    def upload(self, folder: Path, container: str, path: str) -> None:
        """Put every file of a folder below ``path``."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.write(container, f"{path.rstrip('/')}/{file.relative_to(folder)}", file.read_bytes())

    def _content(self, container: str, path: str) -> tuple[bytes, dict[str, str]]:
        if (container, path) not in self.files:
            raise Problem(
                404, "BlobNotFound", f"there is no {path} in {container}", {"x-ms-error-code": "BlobNotFound"}
            )
        return self.files[container, path]

    def _put(self, request: Request, container: str, path: str) -> Response:
        if request.headers.get("if-none-match") == "*" and (container, path) in self.files:
            raise Problem(409, "BlobAlreadyExists", path, {"x-ms-error-code": "BlobAlreadyExists"})
        self.files[container, path] = (request.body, _metadata(request))
        return Response(201, headers=_stamp(request.body))

    def _get(self, request: Request, container: str, path: str) -> Response:
        content, metadata = self._content(container, path)
        headers = {**_stamp(content), "x-ms-blob-type": "BlockBlob", "content-type": "application/octet-stream"}
        headers |= {f"x-ms-meta-{name}": value for name, value in metadata.items()}
        if request.method == "HEAD":
            return Response(200, None, {**headers, "content-length": str(len(content))})
        wanted = request.headers.get("x-ms-range") or request.headers.get("range")
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if not match:
            return Response(200, content, headers)
        start, end = int(match[1]), int(match[2] or len(content))
        if start >= len(content):
            raise Problem(416, "InvalidRange", "the blob is shorter", {"x-ms-error-code": "InvalidRange"})
        part = content[start : end + 1]
        headers["content-range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        return Response(206, part, headers)

    def _list(self, container: str, prefix: str) -> Response:
        blobs = "".join(
            f"<Blob><Name>{escape(path)}</Name><Properties><Content-Length>{len(content)}</Content-Length>"
            f"<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for (place, path), (content, _) in sorted(self.files.items())
            if place == container and path.startswith(prefix)
        )
        text = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{container}">'
            f"<Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        )
        return Response(200, text.encode(), {"content-type": "application/xml"})


def _metadata(request: Request) -> dict[str, str]:
    start = "x-ms-meta-"
    return {name[len(start) :]: value for name, value in request.headers.items() if name.startswith(start)}


def _stamp(content: bytes) -> dict[str, str]:
    return {"etag": f'"{hashlib.md5(content).hexdigest()}"', "last-modified": formatdate(usegmt=True)}
