"""Saved plans: what ``plan --out`` writes, and what ``apply`` holds against a plan made anew.

A saved plan is never replayed. ``apply`` reads the manifest, the references and the server again,
plans again, and carries the new plan out only if it equals the saved one in every part.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.credentials.model import CredentialId, CredentialSource
from skyflowctl.errors import InvalidInputError, Problem, RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.files import STDIN
from skyflowctl.manifest.load import LoadedManifest
from skyflowctl.manifest.nodes import plain
from skyflowctl.manifest.schema import schema_difference
from skyflowctl.operations.live_digest import live_digest, untouched_digest
from skyflowctl.operations.plan import PlanResult
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.signing_key import SigningKey
from skyflowctl.vault.approvals import body_digest
from skyflowctl.vault.gateway import Gateway
from skyflowctl.version import __version__

FORMAT = "skyflowctl-plan/1"
"""The format's name and number; another number has another meaning."""

LIFETIME = timedelta(hours=24)
MAX_PLAN_BYTES = 64 * 1024 * 1024
"""A plan of 10,000 mounts has 20 MB."""

_AGAIN = "review a new one: skyflowctl plan --out FILE"


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan in a file, without any secret.

    Args:
        document: the file's content, as ``schemas/saved-plan.schema.json`` describes it.
    """

    document: Mapping[str, Any]

    @property
    def files(self) -> tuple[str, ...]:
        """The manifest's files, as they were named."""
        return tuple(one["path"] for one in self.document["inputs"])

    @property
    def options(self) -> Mapping[str, Any]:
        """The mounts and the permissions that the plan was made with."""
        options: Mapping[str, Any] = self.document["options"]
        return options

    @property
    def digest(self) -> str:
        """Its SHA-256, as the file has it."""
        return str(self.document["sha256"])

    @property
    def expires_at(self) -> str:
        """When it may no longer be applied, in RFC 3339."""
        return str(self.document["expires_at"])

    def text(self) -> str:
        """Return the file's text."""
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"

    def check_server(self, gateway: Gateway) -> None:
        """Refuse a server other than the one that was planned; one request.

        Raises:
            RefusedError: it is another address, namespace or cluster.
        """
        server, document = gateway.transport.server, self.document
        here = {
            "address": server.address,
            "namespace": server.namespace,
            "cluster_id": gateway.sys.cluster_id(),
        }
        other = [
            Problem(
                "plan-of-other-server",
                f"the plan is for another {key.replace('_', ' ')}",
                f"it was made for {document[key] or 'the root'}, and this is {value or 'the root'}",
                f"name the server that the plan was made for, or {_AGAIN}",
            )
            for key, value in here.items()
            if value != document[key]
        ]
        if other:
            raise RefusedError.of(other)

    def check_same(
        self, made: "SavedPlan", planned: PlanResult, is_begun: Callable[[], bool]
    ) -> None:
        """Refuse this plan unless it equals the one made now, or that is its rest.

        A plan has a rest once an apply of it has parked requests.

        Args:
            made: the plan made now, as it would be saved.
            planned: the same, with the live state.
            is_begun: whether an apply of this plan parked a request that is stored here.

        Raises:
            RefusedError: with a problem for each part that differs.
        """
        different = list(_differences(self.document, made.document))
        if not different or (self._has_rest(made, planned) and is_begun()):
            return
        raise RefusedError.of(different)

    def _has_rest(self, made: "SavedPlan", planned: PlanResult) -> bool:
        """Whether a plan is what is left of this one, and nothing else has changed."""
        document, now = self.document, made.document
        actions = iter(document["actions"])
        return (
            all(document[one] == now[one] for one in ("inputs", "credentials"))
            and all(action in actions for action in now["actions"])
            and untouched_digest(planned, document["actions"]) == document["untouched_sha256"]
        )


def save_plan(
    planned: PlanResult,
    loaded: LoadedManifest,
    gateway: Gateway,
    credentials: CredentialSource,
    *,
    options: Mapping[str, Any],
    now: datetime,
) -> SavedPlan:
    """Return a plan as it is saved.

    Args:
        planned: the plan.
        loaded: the manifest that was planned, with its files.
        gateway: the server that was read.
        credentials: resolves each credential again, for the fingerprint of its public key.
        options: the mounts and permissions of the command line, as JSON.
        now: the current time.

    Raises:
        RefusedError: a credential was replaced while the plan was made.
        InvalidInputError: a credential is not valid.
    """
    server = gateway.transport.server
    actions = [one.to_json() for one in planned.plan.actions]
    document = {
        "format": FORMAT,
        "created_at": rfc3339(now),
        "expires_at": rfc3339(now + LIFETIME),
        "tool": __version__,
        "cluster_id": gateway.sys.cluster_id(),
        "address": server.address,
        "namespace": server.namespace,
        "inputs": [
            {"path": path, "sha256": body_digest(plain(root))} for path, root in loaded.files
        ],
        "options": dict(options),
        "live_sha256": live_digest(planned),
        "untouched_sha256": untouched_digest(planned, actions),
        "credentials": list(_fingerprints(planned, credentials)),
        "actions": actions,
    }
    # As a reader of the file gets it: lists for tuples, and texts as keys.
    document = json.loads(json.dumps(document))
    return SavedPlan({**document, "sha256": body_digest(document)})


def check_savable(loaded: LoadedManifest) -> None:
    """Refuse a manifest that cannot be read again.

    Raises:
        UsageError: it comes from standard input.
        InvalidInputError: a reference is to standard input.
    """
    if any(path == STDIN for path, _ in loaded.files):
        raise UsageError(
            "a saved plan cannot have a manifest from standard input",
            why="apply reads the manifest again, and standard input can be read only once",
            fix="give the manifest as a file, or plan without --out",
        )
    if found := [one for one in loaded.manifest.references if one.scheme == "stdin"]:
        raise InvalidInputError.of(
            Problem(
                "stdin-in-saved-plan",
                "a saved plan cannot have a reference to stdin",
                "apply resolves every reference again, and would have to wait for the same input",
                "use a file, env, keyring, vault or exec reference, or plan without --out",
                one.where,
            )
            for one in found
        )


def read_saved_plan(text: bytes, name: str, now: datetime) -> SavedPlan:
    """Return the saved plan in a file.

    Args:
        text: the file's content.
        name: its name, for messages.
        now: the current time.

    Raises:
        InvalidInputError: it is no saved plan of this format.
        RefusedError: it was changed, is too old, or another version of skyflowctl made it.
    """
    document = _parsed(text, name)
    _check_form(document, name)
    rest = {key: value for key, value in document.items() if key != "sha256"}
    try:
        digest = body_digest(rest)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can name
        raise _not_a_plan(name, "it has text that is no Unicode") from None
    if digest != document["sha256"]:
        raise _refusal(
            "plan-changed", f"{name} was changed after it was saved", "its digest differs"
        )
    try:
        expires_at = parse_rfc3339(document["expires_at"])
    except ValueError:
        raise _not_a_plan(name, "expires_at is no time") from None
    if now >= expires_at:
        why = f"it was valid until {document['expires_at']}, {_hours()} after it was made"
        raise _refusal("plan-expired", f"{name} has expired", why)
    if document["tool"] != __version__:
        why = f"that was skyflowctl {document['tool']}, and this is {__version__}"
        raise _refusal("plan-of-other-version", f"another version made {name}", why)
    return SavedPlan(document)


def _fingerprints(
    planned: PlanResult, credentials: CredentialSource
) -> Iterator[Mapping[str, str]]:
    """Yield each mount's credential by its ids and its public key, which no id proves."""
    for mount in planned.mounts:
        identity = planned.identities.get(mount.name)
        if identity is None:
            continue
        credential = credentials.resolve(mount.name)
        if credential.id != identity:
            raise RefusedError(
                f"the credential of {mount.name} was replaced while the plan was made",
                why=f"it was {_key(identity)}, and is {_key(credential.id)} now",
                fix="run the same command again",
                code="credential-changed",
            )
        key = SigningKey.trusted(load_trusted(credential.json.reveal()).private_key)
        yield {
            "mount": mount.name,
            "client_id": identity.client_id,
            "key_id": identity.key_id,
            "spki_sha256": hashlib.sha256(key.public_der()).hexdigest(),
        }


def _key(identity: CredentialId) -> str:
    return f"key {identity.key_id} of {identity.client_id}"


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is no JSON" if isinstance(error, ValueError) else "it is nested too deeply"
        raise _not_a_plan(name, why) from None
    if not isinstance(found, dict) or "format" not in found:
        raise _not_a_plan(name, "it has no format")
    if found["format"] != FORMAT:
        raise _not_a_plan(name, f"its format is not {FORMAT}")
    return found


def _check_form(document: Mapping[str, Any], name: str) -> None:
    """Check a file against the published schema.

    Raises:
        InvalidInputError: with the first difference.
    """
    if place := schema_difference(document, "saved-plan"):
        raise _not_a_plan(name, f"{place} does not fit the schema of saved plans")


def _not_a_plan(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name} is not a saved plan",
        why=why,
        fix="make one with: skyflowctl plan --out FILE",
        code="not-a-saved-plan",
    )


def _refusal(code: str, summary: str, why: str) -> RefusedError:
    return RefusedError(summary, why=why, fix=_AGAIN, code=code)


def _hours() -> str:
    return f"{LIFETIME // timedelta(hours=1)} hours"


def _differences(saved: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _input_differences(saved["inputs"], made["inputs"])
    yield from _credential_differences(saved["credentials"], made["credentials"])
    if saved["actions"] != made["actions"]:
        yield _difference("the changes are not those of the plan", _changed_actions(saved, made))
    elif saved["live_sha256"] != made["live_sha256"]:
        yield _difference(
            "the server was changed after the plan was made",
            "the changes are still the same, but a mount, policy or secret is not as it was",
        )


def _difference(summary: str, why: str) -> Problem:
    return Problem("plan-outdated", summary, why, _AGAIN)


def _input_differences(
    saved: Sequence[Mapping[str, str]], made: Sequence[Mapping[str, str]]
) -> Iterator[Problem]:
    for one, other in zip(saved, made, strict=True):
        if one["sha256"] != other["sha256"]:
            yield _difference(
                f"{one['path']} is not as it was when the plan was made",
                "the file, or a variable in it, has another value",
            )


def _credential_differences(
    saved: Sequence[Mapping[str, str]], made: Sequence[Mapping[str, str]]
) -> Iterator[Problem]:
    before, now = ({one["mount"]: one for one in side} for side in (saved, made))
    for mount in sorted({*before, *now}):
        if before.get(mount) != now.get(mount):
            yield _difference(
                f"the credential of {mount} is not that of the plan",
                f"the plan has {_shown(before.get(mount))}, the reference {_shown(now.get(mount))}",
            )


def _shown(credential: Mapping[str, str] | None) -> str:
    """Return a credential in words; two keys may have the same id and another public key."""
    if credential is None:
        return "none"
    return f"key {credential['key_id']} ({credential['spki_sha256'][:12]})"


def _changed_actions(saved: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Return the first path whose action is new, gone or another one."""
    before, now = (
        {(one["kind"], one["path"]): one for one in side["actions"]} for side in (saved, made)
    )
    for kind, path in [*before, *now]:
        one, other = before.get((kind, path)), now.get((kind, path))
        if other is None:
            return f"the plan changes {kind} {path}, and nothing is to be changed there now"
        if one is None:
            return f"{kind} {path} is to be changed now, and the plan does not have it"
        if one != other:
            return f"the change of {kind} {path} is another one now"
    return "their order differs"
