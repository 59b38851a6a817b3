"""A pooled client without any logic: the floor of what a command costs.

    python _raw_client.py < WORK

WORK is JSON: address, ca, token, the number of connections, and chains of requests. The requests
of a chain are sent in order, each as method, path and body, and the chains in parallel. Every
answer is decoded; a status above 299 ends the program with 1.
"""

import http.client
import json
import ssl
import sys
import threading
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit


def main() -> int:
    """Send every chain; return 1 if a request failed."""
    work = json.load(sys.stdin)
    where = urlsplit(work["address"])
    context = ssl.create_default_context(cafile=work["ca"])
    chains: SimpleQueue = SimpleQueue()
    for chain in work["chains"]:
        chains.put(chain)
    failed: list[str] = []

    def serve() -> None:
        line = http.client.HTTPSConnection(where.hostname, where.port, context=context)
        while not failed:
            try:
                chain = chains.get_nowait()
            except Empty:
                return
            for method, path, body in chain:
                content = None if body is None else json.dumps(body)
                line.request(method, f"/v1/{path}", content, {"X-Vault-Token": work["token"]})
                reply = line.getresponse()
                raw = reply.read()
                if reply.status > 299:
                    failed.append(f"{method} {path}: {reply.status} {raw!r}")
                    return
                if raw:
                    json.loads(raw)

    threads = [threading.Thread(target=serve) for _ in range(work["connections"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        print(*failed, file=sys.stderr, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
