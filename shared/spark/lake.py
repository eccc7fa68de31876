"""The lake as a Spark job reaches it: by Hadoop's file systems, abfss:// on Synapse, file:// on this machine."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Missing

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """A file of the lake. ``etag`` is empty where the file system has none."""

    size: int
    etag: str


class SparkLake:
    """Files below ``root``, a container (abfss://container@account.dfs.core.windows.net) or a folder."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        self._root = root.rstrip("/")
        self._jvm: Any = spark._jvm
        self._conf: Any = spark._jsc.hadoopConfiguration()
        self._fs: Any = self._path("").getFileSystem(self._conf)
        # Hadoop would put a .crc beside every file of a folder on this machine.
        self._fs.setWriteChecksum(False)

    def uri(self, path: str) -> str:
        """The address by which Spark opens a file or folder."""
        return f"{self._root}/{path}"

    def spellings(self, path: str) -> set[str]:
        """The ways in which Spark may spell the address of a file that it reads."""
        whole = self._fs.makeQualified(self._path(path))
        return {whole.toString(), whole.toUri().toString(), "file://" + whole.toUri().toString().removeprefix("file:")}

    def stat(self, path: str) -> Found | None:
        """The file, None when there is none (or it is a folder)."""
        place = self._path(path)
        if not self._fs.exists(place):
            return None
        status = self._fs.getFileStatus(place)
        if status.isDirectory():
            return None
        tagged = self._jvm.java.lang.Class.forName("org.apache.hadoop.fs.EtagSource").isInstance(status)
        return Found(int(status.getLen()), str(status.getEtag() or "").strip('"') if tagged else "")

    def read(self, path: str) -> bytes:
        """The whole file. Raises :class:`~shared.errors.Missing` when there is none."""
        if self.stat(path) is None:
            raise Missing(f"{path} is not in the lake")
        return self._head(path, None)

    def first_line(self, path: str, limit: int = CHUNK) -> bytes:
        """The first line of a file, of at most ``limit`` bytes; of a .gz file that of its content."""
        head = self._head(path, limit)
        if path.endswith(".gz"):
            head = zlib.decompressobj(wbits=31).decompress(head, limit)
        lines = head.splitlines(keepends=True)
        return lines[0] if lines else b""

    def list(self, folder: str) -> list[str]:
        """The paths of the files in a folder, in order, not of those in folders of it."""
        found = self._fs.listStatus(self._path(folder))
        return sorted(f"{folder}/{status.getPath().getName()}" for status in found if status.isFile())

    def write(self, path: str, data: bytes) -> None:
        """Put the whole file there at once: a reader sees the old or the new one, never a part."""
        place, whole = self._path(f"{path}.landfall-part"), self._path(path)
        stream = self._fs.create(place, True)
        try:
            stream.write(bytearray(data))
        finally:
            stream.close()
        if not self._fs.rename(place, whole):
            # Hadoop does not rename over a file that is there.
            self._fs.delete(whole, False)
            self._fs.rename(place, whole)

    def _head(self, path: str, limit: int | None) -> bytes:
        stream = self._fs.open(self._path(path))
        try:
            utilities = self._jvm.org.apache.commons.io.IOUtils
            if limit is None:
                return bytes(utilities.toByteArray(stream))
            bounded = self._jvm.org.apache.commons.io.input.BoundedInputStream(stream, limit)
            return bytes(utilities.toByteArray(bounded))
        finally:
            stream.close()

    def _path(self, path: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(f"{self._root}/{path}" if path else f"{self._root}/")
