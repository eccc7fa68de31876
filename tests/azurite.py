"""Azurite, Microsoft's storage emulator: installed from npm when it is first needed, run over TLS in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import trustme

from tests.standin import Storage

PACKAGES = Path(__file__).parent / "node"
ACCOUNT = "landfall"
HOSTS = ("127.0.0.1", "localhost", *(f"*.{service}.core.windows.net" for service in ("blob", "queue", "table")))
OLDEST_NODE = 18
START_SECONDS = 60
_LISTENS = re.compile(
    r"Azurite (Blob|Queue|Table) service (?:is )?successfully listen(?:s|ing) (?:on|at) https://[^:]+:(\d+)"
)


class Unavailable(Exception):
    """This machine cannot run Azurite; the message says in a line what to install."""


class Azurite:
    """One emulator with the account :data:`ACCOUNT`; ``storage`` says where it is. It takes account keys and tokens.

    Every service is at ``https://127.0.0.1:<port>/<account>`` and, for who leads the host there, at its name on Azure.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Storage:
        """Run until :meth:`stop`. Raises Unavailable when there is no Node.js, or Azurite cannot be installed."""
        script = installed()
        authority, key = trustme.CA(), base64.b64encode(os.urandom(64)).decode()
        certificate = authority.issue_cert(*HOSTS)
        self._folder.mkdir(parents=True, exist_ok=True)
        chain, private = self._folder / "chain.pem", self._folder / "key.pem"
        chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(private))
        ports = [argument for service in ("blob", "queue", "table") for argument in (f"--{service}Port", "0")]
        options = ["--oauth", "basic", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
        self._process = subprocess.Popen(
            [_node(), str(script), *ports, "--cert", str(chain), "--key", str(private), *options],
            cwd=self._folder,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}", "NODE_OPTIONS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        found = self._ports()
        return Storage(ACCOUNT, key, found["Blob"], found["Queue"], found["Table"], authority.cert_pem.bytes())

    def stop(self) -> None:
        """End it and forget everything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ports(self) -> dict[str, int]:
        process = self._process
        assert process is not None and process.stdout is not None
        slow = threading.Timer(START_SECONDS, process.kill)
        slow.start()
        said, ports = [], {}
        for line in process.stdout:
            said.append(line)
            if match := _LISTENS.search(line):
                ports[match[1]] = int(match[2])
            if len(ports) == 3:
                slow.cancel()
                # Nobody reads what it says later; a full pipe would stop it.
                threading.Thread(target=_drain, args=(process,), daemon=True).start()
                return ports
        slow.cancel()
        raise RuntimeError(f"Azurite did not start: {''.join(said)}")


def installed() -> Path:
    """Azurite's script, in the virtual environment; installed there when it is not, or another version is asked for."""
    import fcntl

    lock = PACKAGES / "package-lock.json"
    home = Path(sys.prefix) / "azurite" / hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    script = home / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    _node()
    home.parent.mkdir(exist_ok=True)
    with (home.parent / "lock").open("w") as held:
        # Several test processes may be the first at the same time.
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PACKAGES / name, home)
            npm = shutil.which("npm")
            if npm is None:
                raise Unavailable("Azurite needs npm, which is not on this machine's PATH: install it beside Node.js")
            done = subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise Unavailable(f"npm cannot install Azurite: {' '.join(done.stderr.split())[-400:]}")
            (home / "done").touch()
    return script


def _node() -> str:
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node else ""
    version = re.match(r"v(\d+)", said)
    if node is None or not version or int(version[1]) < OLDEST_NODE:
        raise Unavailable(f"Azurite needs Node.js {OLDEST_NODE} or newer on the PATH, found {said.strip() or 'none'}")
    return node


def _drain(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ValueError):
        for _ in process.stdout or ():
            pass
