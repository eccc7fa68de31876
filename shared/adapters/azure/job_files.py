"""Files that jobs wrote to the workspace's datastores, read with the app's identity."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from shared.adapters.azure import patience
from shared.adapters.azure.failures import translated
from shared.adapters.azure.workspace import Workspace
from shared.errors import Missing, Rejected

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

DATASTORE = "workspaceblobstore"
_DATASTORE_URI = re.compile(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.*)")
_JOB_URI = re.compile(r"azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+?)(?:/paths)?(?:/(.*))?")


def output_uri(job: str, output: str) -> str:
    """Where output ``output`` of job ``job`` is. The same place that Azure ML itself would choose."""
    return f"azureml://datastores/{DATASTORE}/paths/azureml/{job}/{output}/"


class JobFiles:
    """Reads single files below an azureml:// address."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._containers: dict[str, ContainerClient] = {}

    def read(self, uri: str, file: str) -> bytes:
        """The file below the folder ``uri``. Raises Missing when there is none, Rejected for another kind of address.

        ``uri`` is of a datastore, or of a job's output (azureml://jobs/<job>/outputs/<output>), which is
        where :func:`output_uri` says.
        """
        if not file or file.startswith("/") or ".." in file.split("/"):
            raise Rejected(f"{file!r} is not below {uri}") if file else Missing(f"{uri} is a folder")
        if match := _JOB_URI.fullmatch(uri):
            uri = output_uri(match[1], match[2]) + (match[3] or "")
        match = _DATASTORE_URI.fullmatch(uri)
        if not match:
            raise Rejected(f"{uri} is in no datastore of workspace {self._workspace.name}; files are read from there")
        path = f"{match[2].rstrip('/')}/{file}"
        container = self._container(match[1])
        with translated(f"read {path} of datastore {match[1]}"):
            return container.get_blob_client(path).download_blob().readall()

    def _container(self, name: str) -> ContainerClient:
        from azure.storage.blob import ContainerClient

        with self._lock:
            if name not in self._containers:
                with translated(f"look up datastore {name} of workspace {self._workspace.name}"):
                    store = self._workspace.client.datastores.get(name)
                self._containers[name] = ContainerClient(
                    f"{store.protocol}://{store.account_name}.blob.{store.endpoint}",
                    store.container_name,
                    credential=self._workspace.credential,
                    **patience.options(),
                )
            return self._containers[name]
