"""The keys of a mount that is cut off, and their state at Skyflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.rotation.ports import KeyService
from skyflowctl.rotation.revocation.model import AtSkyflow, RevokedKey
from skyflowctl.rotation.sibling_mounts import SiblingMounts
from skyflowctl.vault.live import CredentialVersion, LiveConfig

_RANK = ("live", "kept", "earlier", "unwritten")
_Who = tuple[str, str]


def keys_of(
    before: LiveConfig,
    past: Mapping[int, CredentialVersion],
    later: Mapping[int, CredentialVersion],
) -> tuple[RevokedKey, ...]:
    """Return every key that the mount has held, the newest first.

    Args:
        before: the config as this run found it; one that was cut off already counts the
            last key of its history as the live one, because it was.
        past: the history as this run found it; it still shows which credentials were kept.
        later: the history after the cut-off, with what was written in between.
    """
    # A credential written between the snapshot and the cut-off was live too.
    entries = {**later, **past}
    words: dict[_Who, list[str]] = {}
    versions: dict[_Who, list[int]] = {}
    for number in sorted(entries, reverse=True):
        entry = entries[number]
        who = (entry.client_id, entry.key_id)
        live = number >= before.credential_version
        words.setdefault(who, []).append(_word(live=live, kept=entry.kept))
        versions.setdefault(who, []).append(number)
    if not entries and before.key_id:
        who = (before.client_id, before.key_id)
        words[who], versions[who] = ["live"], []
    _add_unwritten(before, words, versions)
    return tuple(
        RevokedKey(*who, tuple(sorted(versions[who])), min(words[who], key=_RANK.index))
        for who in words
    )


def _word(*, live: bool, kept: bool) -> str:
    if live:
        return "live"
    return "kept" if kept else "earlier"


def _add_unwritten(
    before: LiveConfig, words: dict[_Who, list[str]], versions: dict[_Who, list[int]]
) -> None:
    """Add the key that an open rotation had created; the cut-off forgets the rotation."""
    rotation = before.rotation
    if rotation is None or rotation.state != "open" or not rotation.to_key:
        return
    if rotation.to_key not in {key_id for _, key_id in words}:
        who = (before.client_id, rotation.to_key)
        words[who], versions[who] = ["unwritten"], []


@dataclass(slots=True)
class KeySweep:
    """Looks the keys up at Skyflow, and deletes them there if ``delete`` is True.

    Args:
        operator: None: no operator token is named.
        siblings: the other mounts; a key that is live on one of them is left.
        delete: delete the keys that Skyflow still lists.
    """

    operator: KeyService | None
    siblings: SiblingMounts
    delete: bool
    problems: list[Problem] = field(default_factory=list)
    valid_before: dict[str, str] = field(default_factory=dict)
    _listed: dict[str, frozenset[str] | SkyflowctlError] = field(default_factory=dict)

    def check(self, key: RevokedKey) -> RevokedKey:
        """Return the key with its state at Skyflow; raises nothing."""
        if self.operator is None:
            return replace(key, detail="Skyflow was not asked: this run had no operator token")
        listed = self._list(self.operator, key.client_id)
        if isinstance(listed, SkyflowctlError):
            return replace(key, detail=_said(listed))
        if key.key_id not in listed:
            return replace(key, at_skyflow=AtSkyflow.ABSENT)
        users = self.siblings.using(key.client_id, key.key_id)
        if users:
            return replace(key, at_skyflow=AtSkyflow.LEFT, detail=f"live on {', '.join(users)}")
        if not self.delete:
            return replace(key, at_skyflow=AtSkyflow.LEFT)
        return self._deleted(self.operator, key)

    def _list(self, operator: KeyService, client_id: str) -> frozenset[str] | SkyflowctlError:
        if client_id not in self._listed:
            try:
                keys = operator.list_keys(client_id)
            except SkyflowctlError as error:
                self._listed[client_id] = error
                self.problems += error.problems
            else:
                self.valid_before |= {key.key_id: key.valid_before for key in keys}
                self._listed[client_id] = frozenset(key.key_id for key in keys)
        return self._listed[client_id]

    def _deleted(self, operator: KeyService, key: RevokedKey) -> RevokedKey:
        try:
            operator.delete_key(key.client_id, key.key_id)
        except SkyflowctlError as error:
            self.problems += error.problems
            return replace(key, at_skyflow=AtSkyflow.LEFT, detail=_said(error))
        return replace(key, at_skyflow=AtSkyflow.DELETED)


def _said(error: SkyflowctlError) -> str:
    return error.problems[0].summary
