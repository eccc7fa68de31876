"""The storage accounts: reachable, and open to this identity. What a probe makes it takes away again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

from landfall.doctor.finding import Check, Finding
from landfall.doctor.tokens import STORAGE, runs_as_app
from landfall.setup.estate import Estate
from shared.adapters.azure.failures import translated
from shared.adapters.azure.patience import options
from shared.errors import LandfallError, Rejected

FOLDER = "doctor/"
"""Where in the lake a probe is: nobody subscribes to it."""


def blobs(estate: Estate) -> Check:
    """A file is written to the lake, read and deleted."""
    settings = estate.settings

    def look() -> None:
        from azure.storage.blob import BlobClient

        address, name = _address(settings.account, "blob"), f"{FOLDER}{uuid.uuid4()}"
        blob = BlobClient(address, settings.container, name, credential=estate.credential, **options())
        with blob, translated(f"write, read and delete a file in container {settings.container}"):
            blob.upload_blob(b"probe")
            came = blob.download_blob().readall()
            blob.delete_blob()
        _same(came, b"probe")

    role = "Storage Blob Data Contributor"
    subject = f"{settings.account}/{settings.container}"
    return _probe(estate, "lake", subject, look, role, estate.container(settings.container))


def queue(estate: Estate) -> Check:
    """A message goes through a queue of its own."""
    account = estate.settings.app_account

    def look() -> None:
        from azure.storage.queue import QueueClient

        client = QueueClient(
            _address(account, "queue"), f"doctor-{uuid.uuid4().hex}", credential=estate.credential, **options()
        )
        with client, translated(f"send and receive a message in account {account}"):
            client.create_queue()
            try:
                client.send_message("probe")
                came = client.receive_message()
            finally:
                _away(client.delete_queue)
        _same(came.content if came else None, "probe")

    return _probe(estate, "queue", account, look, "Storage Queue Data Contributor", estate.app_account)


def table(estate: Estate) -> Check:
    """An entity is written to a table of its own and read."""
    account = estate.settings.app_account

    def look() -> None:
        from azure.data.tables import TableClient

        client = TableClient(
            _address(account, "table"), f"doctor{uuid.uuid4().hex}", credential=estate.credential, **options()
        )
        with client, translated(f"write and read a table in account {account}"):
            client.create_table()
            try:
                client.create_entity({"PartitionKey": "p", "RowKey": "r", "value": "probe"})
                came = client.get_entity("p", "r")
            finally:
                _away(client.delete_table)
        _same(came["value"], "probe")

    return _probe(estate, "ledger", account, look, "Storage Table Data Contributor", estate.app_account)


def _probe(estate: Estate, name: str, subject: str, act: Callable[[], None], role: str, scope: str) -> Check:
    def look() -> Iterator[Finding]:
        act()
        yield check.ok("can be written, read and deleted from")

    check = Check(
        name=name,
        subject=subject,
        look=look,
        forbidden=(
            f"Give the identity that doctor runs as the role {role}: az role assignment create --role '{role}'"
            f" --assignee-object-id ID --scope {scope} (the app's own identity gets it from landfall setup --apply)."
            " A new role takes some minutes to be in force."
        ),
        missing="Make it: landfall setup --apply for a container, azd provision for an account.",
        cure="Is the account's name right? If infra/ was deployed with isolated, run doctor inside its network.",
        audience=STORAGE,
        as_app=lambda: runs_as_app(estate),
    )
    return check


def _address(account: str, service: str) -> str:
    return f"https://{account}.{service}.core.windows.net"


def _same(came: object, sent: object) -> None:
    if came != sent:
        raise Rejected(f"a probe was written as {sent!r} and read as {came!r}")


def _away(delete: Callable[[], object]) -> None:
    """Take a probe away; that it cannot be is no news beside what made the probe fail."""
    with suppress(LandfallError), translated("take a probe away"):
        delete()
