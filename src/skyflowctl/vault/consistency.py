"""Consistent reads through a standby: the index headers of OpenBao 2.7.

Standbys serve reads and lag behind by up to a second. Every answer has a raft index and is at
least as new as it. If a request sends the index back with ``forward-active-node``, a standby
that has not reached it forwards the read to the leader. An index far in the future makes a
standby always forward (measured: the leader ignores it, another cluster's index has no effect).
Servers that do not know the headers ignore them.
"""

import base64
import binascii
import json
import threading

INDEX_HEADER = "X-Vault-Index"
MODE_HEADER = "X-Vault-Inconsistent"
_FORWARD = "forward-active-node"
_FAIL = "fail"
_FUTURE = 2**62


class ConsistencyIndex:
    """The newest index seen of one cluster. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cluster = ""
        self._value = 0

    @property
    def cluster(self) -> str:
        """The id of the cluster that answered last; empty before the first answer."""
        return self._cluster

    @property
    def newest(self) -> str:
        """The newest index seen, as a header's value; empty if no answer had one."""
        with self._lock:
            return _encode(self._cluster, self._value) if self._value else ""

    def learn_cluster(self, cluster: str) -> None:
        """Record the cluster's id, and drop the index of any other cluster."""
        with self._lock:
            if cluster and cluster != self._cluster:
                self._cluster, self._value = cluster, 0

    def observe(self, header: str | None) -> None:
        """Record an answer's index header; a malformed one is ignored."""
        found = _decode(header) if header else None
        if found is None:
            return
        self.learn_cluster(found[0])
        with self._lock:
            if found[0] == self._cluster:
                self._value = max(self._value, found[1])

    def headers(self, *, fresh: bool) -> dict[str, str]:
        """Return the request headers that ask for an answer at least this new.

        Args:
            fresh: ask for the leader's current state.
        """
        with self._lock:
            cluster, value = self._cluster, self._value
        if not cluster:
            return {}
        newest = _encode(cluster, _FUTURE if fresh else value)
        return {INDEX_HEADER: newest, MODE_HEADER: _FORWARD}


def only_if_reached(index: str) -> dict[str, str]:
    """Return request headers that make a node answer 429 until it has reached the index.

    Measured on OpenBao 2.7.2: status 429, no text, ``Retry-After: 1``. The leader ignores
    the index, because no node is ahead of it.
    """
    return {INDEX_HEADER: index, MODE_HEADER: _FAIL} if index else {}


def reaches(answered: str, wanted: str) -> bool:
    """Return whether an answer's index is at least as new as the wanted one, both as headers.

    False also for an answer without an index, whose server does not support it.
    """
    one, other = _decode(answered), _decode(wanted)
    return one is not None and other is not None and one[0] == other[0] and one[1] >= other[1]


def _encode(cluster: str, value: int) -> str:
    text = json.dumps({"cluster": cluster, "value": str(value)})
    return base64.b64encode(text.encode()).decode()


def _decode(header: str) -> tuple[str, int] | None:
    try:
        raw = json.loads(base64.b64decode(header, validate=True))
        return str(raw["cluster"]), int(raw["value"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return None
