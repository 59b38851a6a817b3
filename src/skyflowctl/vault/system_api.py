"""Typed calls to the server itself: mounts, audited headers, health, nodes, rights."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyflowctl.errors import PartlyDoneError
from skyflowctl.retry import Backoff, retry
from skyflowctl.vault import decode
from skyflowctl.vault.access_api import AccessApi
from skyflowctl.vault.catalog import Catalog
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    PathInUseError,
    SilentlyIgnoredError,
    VaultError,
)
from skyflowctl.vault.live import LiveMount
from skyflowctl.vault.login_api import OwnLogin, look_up
from skyflowctl.vault.namespace_contents import namespace_contents
from skyflowctl.vault.namespaces import NAMESPACE_HEADER, is_root_only
from skyflowctl.vault.responses import ClusterNode, ServerHealth
from skyflowctl.vault.transport import Request, Transport

_HEADERS = "sys/config/auditing/request-headers"
_CHUNK = 500  # a server refuses a request with more than 1,000 JSON strings
_POLLING = Backoff(first=0.05, longest=1.0)
_SETTLED_SECONDS = 5.0
_MOVED_SECONDS = 60.0


class SystemApi:
    """The server. Every method raises :class:`skyflowctl.vault.errors.VaultError`.

    A write whose reply was lost is sent again, or compared with the live state.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.catalog = Catalog(transport)
        self.access = AccessApi(transport)

    # Mounts --------------------------------------------------------------------

    def mounts(self) -> dict[str, LiveMount]:
        """Return every secrets mount by path.

        ``sys/mounts`` has raw values, tune effective ones.
        """
        data = self._get("sys/mounts")
        return {path.strip("/"): decode.mount(path, raw) for path, raw in data.items()}

    def mount(self, path: str) -> LiveMount | None:
        """Return one mount's entry, or None if nothing is mounted there."""
        try:
            return decode.mount(path, self._get(f"sys/mounts/{path}"))
        except BadRequestError as error:
            if error.says("No secret engine mount"):
                return None
            raise

    def mount_options(self, path: str) -> Mapping[str, str]:
        """Return a mount's options, also for a login that may use this mount but not list mounts.

        Empty for a login that may not read them at all.
        """
        mount: LiveMount | None
        try:
            mount = self.mount(path)
        except ForbiddenError:
            mount = self._mount_of_its_users(path)
        return mount.options if mount else {}

    def clear_marks(self, path: str) -> None:
        """Remove the marks of a cut-off from a mount's options."""
        mount = self.mount(path)
        options = mount.options if mount else {}
        marks = [name for name in options if name.startswith(decode.REVOKED_MARK)]
        if marks:
            body = {"options": dict.fromkeys(marks, "")}
            self._write("POST", f"sys/mounts/{path}/tune", body)

    def _mount_of_its_users(self, path: str) -> LiveMount | None:
        try:
            reply = self._transport.send(Request("GET", f"sys/internal/ui/mounts/{path}"))
        except (ForbiddenError, NotFoundError):
            return None
        return decode.mount(path, reply.data or {})

    def enable_mount(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Mount a secrets engine and return the mount as the server stored it.

        Args:
            path: of the mount.
            fields: ``type``, ``description``, ``options``, and flat, as for
                :meth:`tune_mount`, what the API keeps under ``config``.

        Raises:
            SilentlyIgnoredError: the server accepted the request but not all of its values.
            BadRequestError: the type is unknown, or the plugin is broken.
            PathInUseError: another mount than the requested one is at the path.
        """
        try:
            self._enable(path, fields)
        except OutcomeUnknownError:
            return self._enable_again(path, fields)
        except BadRequestError as error:
            return self._made_by_another(path, fields, error)
        return self._confirmed(path, fields)

    def tune_mount(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Change a mount in place and return its new entry.

        Args:
            path: of the mount.
            fields: ``description``, ``options`` (merged key by key; "" removes one),
                ``plugin_version``, ``passthrough_request_headers``,
                ``audit_non_hmac_request_keys``, ``audit_non_hmac_response_keys`` …

        Raises:
            SilentlyIgnoredError: the server accepted the request but not all of its values.
        """
        self._write("POST", f"sys/mounts/{path}/tune", fields)
        return self._confirmed(path, fields)

    def disable_mount(self, path: str) -> None:
        """Remove a mount and all of its data; a missing one is no error."""
        self._write("DELETE", f"sys/mounts/{path}", None)

    def _enable(self, path: str, fields: Mapping[str, Any]) -> None:
        body = decode.enable_body(fields)
        self._transport.send(Request("POST", f"sys/mounts/{path}", body=body, fresh=True))

    def _made_by_another(
        self, path: str, fields: Mapping[str, Any], error: BadRequestError
    ) -> LiveMount:
        """Return a mount that another client created meanwhile, if it equals the requested one."""
        if not error.says("path is already in use"):
            raise error
        live = self.mount(path)
        if live is None or decode.ignored_fields(live, fields):
            raise PathInUseError.at(path, error) from None
        return live

    def _enable_again(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Enable after a lost reply: the mount at the path is ours if it equals what was sent."""
        if self.mount(path) is not None:
            return self._confirmed(path, fields)
        try:
            self._enable(path, fields)
        except BadRequestError as error:
            if not error.says("path is already in use"):
                raise
        return self._confirmed(path, fields)

    def _confirmed(self, path: str, fields: Mapping[str, Any]) -> LiveMount:
        """Read a mount back and compare it, because servers accept fields that they ignore."""
        live = self.mount(path)
        ignored = ["path"] if live is None else decode.ignored_fields(live, fields)
        if live is None or ignored:
            raise SilentlyIgnoredError(
                f"the server accepted and ignored {', '.join(ignored)}: {path}",
                why="it does not change these fields in place, or does not know them",
                fix="check the server's version, or change the field as its documentation "
                "describes",
                path=f"sys/mounts/{path}",
            )
        return live

    def move_mount(self, source: str, target: str) -> None:
        """Move a mount with all that it stores, and wait until the server has done so.

        A mount that is only at its new path counts as moved, so a call may be repeated.

        Raises:
            PathInUseError: a mount is at, above or below the new path.
            BadRequestError: the server refuses the move for another reason.
            OutcomeUnknownError: two replies were lost, and the mount is not at its new path.
            VaultError: the move failed or has not ended.
        """
        try:
            self._move(source, target)
        except OutcomeUnknownError:
            if not self._is_moved_within(_SETTLED_SECONDS, source, target):
                self._move_again(source, target)
        except BadRequestError as error:
            if self._is_moved(source, target):
                return  # another run moved it, or this one, and the reply was lost
            if error.says("path already in use"):
                raise PathInUseError.at(target, error) from None
            raise

    def _move_again(self, source: str, target: str) -> None:
        """Move after a lost reply: a refusal may mean that the first request is being executed."""
        try:
            self._move(source, target)
        except BadRequestError:
            if not self._is_moved_within(_SETTLED_SECONDS, source, target):
                raise

    def _move(self, source: str, target: str) -> None:
        """Ask for a move and wait for its end: the server moves mounts in the background."""
        body = {"from": source, "to": target}
        reply = self._transport.send(Request("POST", "sys/remount", body=body, fresh=True))
        status = f"sys/remount/status/{(reply.data or {}).get('migration_id', '')}"

        def state() -> str:
            try:
                return str((self._get(status).get("migration_info") or {}).get("status", ""))
            except (ForbiddenError, NotFoundError):
                # Only the node that makes the move knows its status, and a login may not read it.
                return "success" if self._is_moved(source, target) else "in-progress"

        ended = retry(state, lambda found: found != "in-progress", _wait_until(_MOVED_SECONDS))
        if ended == "success":
            return
        raise VaultError(
            f"{source} was not moved to {target}: the server's status is {ended}",
            why="the server makes moves in the background, and this one did not succeed",
            fix=f"search the server's log for {status.rpartition('/')[2]}; then run it again",
            code="move-unfinished",
            path="sys/remount",
        )

    def _is_moved_within(self, seconds: float, source: str, target: str) -> bool:
        return retry(lambda: self._is_moved(source, target), bool, _wait_until(seconds))

    def _is_moved(self, source: str, target: str) -> bool:
        return self.mount(target) is not None and self.mount(source) is None

    def namespaces(self) -> frozenset[str]:
        """Return the paths of the namespaces directly below this one; empty if unknown."""
        try:
            reply = self._transport.send(Request("LIST", "sys/namespaces", fresh=True))
        except (ForbiddenError, NotFoundError):
            return frozenset()
        return frozenset(path.strip("/") for path in decode.texts((reply.data or {}).get("keys")))

    def namespace_contents(self, path: str) -> tuple[str, ...]:
        """Return the API paths of what a namespace contains, and of the quotas on it."""
        return namespace_contents(self._transport, path)

    def delete_namespace(self, path: str) -> None:
        """Delete a namespace with everything in it, and wait until it is gone: the server does it
        in the background.

        Raises:
            PartlyDoneError: it is still there after the time limit.
        """
        self.access.delete(path)
        gone = _wait_until(_MOVED_SECONDS)
        left = retry(lambda: self.access.object(path), lambda found: found is None, gone)
        if left is not None:
            raise PartlyDoneError(
                f"{path} is still being deleted",
                why=f"the server has not finished within {_MOVED_SECONDS:.0f} s",
                fix="run the same command again",
                code="namespace-not-gone",
            )

    # Audited headers -----------------------------------------------------------

    def put_audited_header(self, name: str, *, hmac: bool) -> None:
        """Make the server log a request header in the audit log, hashed or in plain text."""
        self._write("PUT", f"{_HEADERS}/{name}", {"hmac": hmac})

    def audited_headers(self) -> dict[str, bool] | None:
        """Return whether each header is hashed, by name in lower case; None if not permitted."""
        try:
            return decode.decode_audited_headers(self._get(_HEADERS))
        except ForbiddenError:
            return None
        except NotFoundError as error:
            if error.empty:
                return {}
            raise

    # Health and nodes ----------------------------------------------------------

    def health(self) -> ServerHealth:
        """Return the state of the node that answers, even if it is sealed or a standby."""
        codes = {"standbycode": "200", "sealedcode": "200", "uninitcode": "200"}
        return decode.server_health(
            self._transport.send(Request("GET", "sys/health", params=codes))
        )

    def cluster_id(self) -> str:
        """Return the cluster's id; this sends a request only if no reply has had it yet."""
        return self._transport.cluster_id or self.health().cluster_id

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Return the cluster's nodes; empty for a server without HA."""
        reply = self._transport.send(Request("GET", "sys/ha-status"))
        return tuple(decode.node(raw) for raw in (reply.data or {}).get("nodes") or ())

    # This login ----------------------------------------------------------------

    def capabilities(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return what this token may do at each path (``read``, ``deny``, ``root`` …).

        Paths that exist only in the root namespace are asked for there. In another namespace the
        answer would concern an unused path of the same name. A login that may not even ask in the
        root namespace has no rights there.
        """
        found: dict[str, tuple[str, ...]] = dict.fromkeys(paths, ())
        found |= self._capabilities([path for path in paths if not is_root_only(path)], {})
        try:
            at_root = [path for path in paths if is_root_only(path)]
            found |= self._capabilities(at_root, {NAMESPACE_HEADER: ""})
        except ForbiddenError:
            return found
        return found

    def _capabilities(
        self, paths: Sequence[str], headers: Mapping[str, str]
    ) -> dict[str, tuple[str, ...]]:
        where = "sys/capabilities-self"
        found: dict[str, tuple[str, ...]] = {}
        for start in range(0, len(paths), _CHUNK):
            chunk = list(paths[start : start + _CHUNK])
            body = {"paths": chunk}
            reply = self._transport.send(
                Request("POST", where, body=body, headers=headers, idempotent=True)
            )
            data = reply.data or {}
            found |= {path: tuple(data.get(path) or ()) for path in chunk}
        return found

    def display_name(self) -> str:
        """Return the server's display name of this login; empty if it returns none."""
        return look_up(self._transport).user

    def own_login(self) -> OwnLogin:
        """Return what is known of this login; nothing, if it may not look up itself."""
        try:
            return look_up(self._transport)
        except VaultError:
            return OwnLogin()

    def _get(self, path: str) -> Mapping[str, Any]:
        return self._transport.send(Request("GET", path, fresh=True)).data or {}

    def _write(self, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        """Write with the leader's state, as the calls to an engine do."""
        self._transport.send(Request(method, path, body=body, idempotent=True, fresh=True))


def _wait_until(seconds: float) -> Callable[[object, int], bool]:
    """Return a function that waits before the next try; False once so many seconds have passed."""
    ends = time.monotonic() + seconds

    def wait(_last: object, tries: int) -> bool:
        time.sleep(_POLLING.pause(tries))
        return time.monotonic() < ends

    return wait
