"""A model of a server whose control group guards every write.

``tests/e2e/test_control_group_model.py`` holds each of its transitions against OpenBao.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from support.scripted import Answer, Seen

GONE = Answer(400, {"errors": ["wrapping token is not valid or does not exist"]})
NO_ACCESSOR = Answer(400, {"errors": ["1 error occurred:\n\t* invalid accessor\n\n"]})
FORBIDDEN = Answer(403, {"errors": ["permission denied"]})


@dataclass
class Parked:
    """One request that the server holds."""

    accessor: str
    path: str
    body: dict[str, Any]
    requester: str
    approved: bool = False


class Parking:
    """The script of a :class:`support.scripted.ScriptedServer`."""

    def __init__(self) -> None:
        self.parked: dict[str, Parked] = {}
        self.objects: dict[str, dict[str, Any]] = {}
        self._dead: set[str] = set()
        self._number = 0

    def approve_all(self) -> None:
        for one in self.parked.values():
            one.approved = True

    def put(self, path: str, body: dict[str, Any]) -> Answer:
        """Write an object past the control group."""
        version = self.objects.get(path, {}).get("version", 0)
        if body.get("cas", version) != version:
            return Answer(409, {"errors": ["check-and-set failed"]})
        kept = {name: value for name, value in body.items() if name != "cas"}
        self.objects[path] = {**self.objects.get(path, {}), **kept, "version": version + 1}
        return data({"version": version + 1})

    def __call__(self, seen: Seen) -> Answer:
        path = seen.path.removeprefix("/v1/").partition("?")[0]
        login = seen.headers.get("x-vault-token", "")
        body = json.loads(seen.body) if seen.body else {}
        if path == "sys/health":
            return Answer(200, {"cluster_id": "c", "initialized": True, "sealed": False})
        if path.startswith("sys/control-group/"):
            return self._control_group(path.rpartition("/")[2], body)
        if path.startswith("sys/wrapping/"):
            return self._wrapping(path.rpartition("/")[2], body.get("token") or login)
        if path == "auth/token/revoke-self":
            self.parked.pop(login, None)
            self._dead.add(login)
            return Answer(204)
        if path.startswith("auth/token/"):
            return data({})
        if seen.method in {"GET", "LIST"}:
            found = self.objects.get(path)
            return data(found) if found else Answer(404, {"errors": []})
        return self._park(path, body, login)

    def _park(self, path: str, body: dict[str, Any], login: str) -> Answer:
        self._number += 1
        token, accessor = f"s.{self._number}", f"accessor-{self._number}"
        self.parked[token] = Parked(accessor, path, body, login)
        info = {"token": token, "accessor": accessor, "ttl": 3600, "creation_path": path}
        return Answer(200, {"request_id": "r", "data": None, "wrap_info": info})

    def _control_group(self, verb: str, body: dict[str, Any]) -> Answer:
        held = (one for one in self.parked.values() if one.accessor == body.get("accessor"))
        one = next(held, None)
        if one is None:
            return NO_ACCESSOR
        if verb == "authorize":
            one.approved = True
            return data({"approved": True})
        about = {"request_data": one.body, "request_path": one.path}
        return data({"approved": one.approved, **about})

    def _wrapping(self, verb: str, token: str) -> Answer:
        one = self.parked.get(token)
        if one is None or not one.approved:
            return GONE
        if verb == "lookup":
            return data({"creation_path": one.path})
        # An approved request is run at each unwrap, with the login that sent it.
        return FORBIDDEN if one.requester in self._dead else self.put(one.path, one.body)


def data(value: dict[str, Any]) -> Answer:
    return Answer(200, {"request_id": "r", "data": value, "wrap_info": None})
