"""A private certificate authority and one certificate for every host that the stand-in plays."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

HOSTS = (
    "127.0.0.1",
    "localhost",
    "management.azure.com",
    "*.api.azureml.ms",
    "*.westeurope.inference.ml.azure.com",
    "*.westeurope-1.eventgrid.azure.net",
    "*.dev.azuresynapse.net",
    "*.blob.core.windows.net",
    "*.queue.core.windows.net",
    "*.table.core.windows.net",
)


class Certificates:
    """``bundle`` is the file that clients trust: this authority and, once added, others."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA()
        self.bundle = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.bundle))

    def trust(self, pem: bytes) -> None:
        """Let clients trust another authority too, for example the one of the storage emulator."""
        with self.bundle.open("ab") as file:
            file.write(pem)

    def server(self) -> ssl.SSLContext:
        """The TLS side of a server for all of HOSTS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*HOSTS).configure_cert(context)
        return context
