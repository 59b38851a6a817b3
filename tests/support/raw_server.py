"""A server on loopback that sends bytes as they are, whole HTTP or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Serve = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def raw_server(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a server that gives every connection to ``serve``; yields its http:// address.

    ``serve`` gets the connection, behind TLS when there is a context, and an event that is
    set at the end.
    """
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            if context is None:
                serve(client, ended)
                return
            with context.wrap_socket(client, server_side=True) as secure:
                serve(secure, ended)

    def accept() -> None:
        while not ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(client,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


def saying(answer: bytes) -> Serve:
    """Send these bytes to every request, and close."""

    def serve(client: socket.socket, _: threading.Event) -> None:
        client.recv(65536)
        client.sendall(answer)

    return serve


def dripping(head: bytes, drop: bytes) -> Serve:
    """Send a beginning and then this every 50 ms, without an end."""

    def serve(client: socket.socket, ended: threading.Event) -> None:
        client.recv(65536)
        client.sendall(head)
        while not ended.wait(0.05):
            client.sendall(drop)

    return serve


def pouring(head: bytes, drop: bytes) -> Serve:
    """Send a beginning and then this as fast as it is taken, without an end."""

    def serve(client: socket.socket, ended: threading.Event) -> None:
        client.recv(65536)
        client.sendall(head)
        while not ended.is_set():
            client.sendall(drop)

    return serve
