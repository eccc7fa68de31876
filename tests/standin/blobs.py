"""The storage account behind the workspace, as the service itself reaches it: with its key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient


@dataclass(frozen=True)
class Storage:
    """A storage emulator on this machine: TLS ports, and the authority that signed its certificate."""

    account: str
    key: str
    blob: int
    queue: int
    table: int
    authority: bytes


class Blobs:
    """Folders and files of any container of the account."""

    def __init__(self, storage: Storage, proxy: str, bundle: Path) -> None:
        self.account, self._key = storage.account, storage.key
        self._port, self._proxy, self._bundle = storage.blob, proxy, bundle
        self._client: BlobServiceClient | None = None

    def client(self) -> BlobServiceClient:
        """A client with the account's key that goes the way of all others, or without ``proxy`` to the emulator."""
        from azure.storage.blob import BlobServiceClient

        if self._client is None:
            options: dict[str, Any] = {"connection_verify": str(self._bundle)}
            address = f"https://127.0.0.1:{self._port}/{self.account}"
            if self._proxy:
                options["proxies"] = {"https": self._proxy}
                address = f"https://{self.account}.blob.core.windows.net"
            self._client = BlobServiceClient(address, credential=self._key, **options)
        return self._client

    def ensure(self, container: str) -> None:
        """Make the container when there is none."""
        from azure.core.exceptions import ResourceExistsError

        try:
            self.client().create_container(container)
        except ResourceExistsError:
            return

    def sas(self, container: str) -> str:
        """A signature that reads, lists and writes a container for an hour."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        return generate_container_sas(
            self.account,
            container,
            account_key=self._key,
            permission=ContainerSasPermissions(read=True, write=True, create=True, list=True, add=True, delete=True),
            start=datetime.now(UTC) - timedelta(minutes=5),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )

    def write(self, container: str, path: str, data: bytes) -> None:
        """Put a blob."""
        self.client().get_blob_client(container, path).upload_blob(data, overwrite=True)

    def read(self, container: str, path: str) -> bytes:
        """A blob."""
        return self.client().get_blob_client(container, path).download_blob().readall()

    def delete(self, container: str, path: str) -> None:
        """Remove a blob."""
        self.client().get_blob_client(container, path).delete_blob()

    def etags(self, container: str) -> dict[str, str]:
        """All blobs of a container, and what their content is known by."""
        return {blob.name: str(blob.etag) for blob in self.client().get_container_client(container).list_blobs()}

    def download(self, container: str, path: str, target: Path) -> int:
        """Bring a blob, or all blobs of a folder, to ``target``; returns how many there were."""
        path = path.rstrip("/")
        names = [blob.name for blob in self.client().get_container_client(container).list_blobs(name_starts_with=path)]
        count = 0
        for name in names:
            if name != path and not name.startswith(f"{path}/"):
                continue
            place = target if name == path else target / name[len(path) + 1 :]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.client().get_blob_client(container, name).download_blob().readall())
            count += 1
        return count

    def upload(self, folder: Path, container: str, path: str) -> None:
        """Put every file of a folder below ``path``."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.write(container, f"{path.rstrip('/')}/{file.relative_to(folder)}", file.read_bytes())
