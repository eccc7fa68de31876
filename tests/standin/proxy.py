"""The CONNECT proxy: leads known hosts to the stand-in or the storage emulator, and refuses all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def serve(port_of: Callable[[str], int | None], refused: list[str]) -> asyncio.Server:
    """Pipe CONNECT tunnels to ``port_of(host)`` on this machine; hosts without one are added to ``refused``."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target = head.split(b" ", 2)[:2]
            host = target.decode().rpartition(":")[0].lower()
            port = port_of(host) if method == b"CONNECT" else None
            if port is None:
                refused.append(target.decode())
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
            upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pipe(reader, downstream), _pipe(upstream, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    return await asyncio.start_server(connection, "127.0.0.1", 0)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either side is done; a connection that was cut on one side is cut on the other."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.transport.abort()
