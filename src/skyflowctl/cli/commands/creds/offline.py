"""``creds`` without a server: a dry run in this process, or a direct mint with the SDK."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.context import dev_stack, manifests
from skyflowctl.cli.runner import CommandRun
from skyflowctl.clock import rfc3339
from skyflowctl.errors import Problem, UsageError
from skyflowctl.text import name_one_of

if TYPE_CHECKING:
    from skyflowctl.credentials.sources import ManifestSource
    from skyflowctl.engine.ctx import Ctx
    from skyflowctl.manifest.model import Manifest, Mount, Role


def creds_dry_run(
    mount: str,
    role: str,
    ctx: "Ctx | None",
    file: Sequence[str] | None,
    run: CommandRun,
    *,
    source_of: "Callable[[Manifest], ManifestSource]",
) -> dict[str, Any]:
    """Return the data of a token that this process minted and checked.

    Raises:
        UsageError: the manifest has no such mount or role, or the engine refuses the ctx.
        InvalidInputError: the credential is invalid.
    """
    from skyflowctl.operations.dry_run.run import mint_dry

    manifest = manifests.load_named_manifest(file, run).manifest
    found, _ = _declared(manifest, mount, role)
    dev = dev_stack.dev_stack_is_named()
    own = source_of(manifest)
    source = dev_stack.NoCredentials() if dev else own
    made = mint_dry(manifest, found.name, role, ctx, source)
    if made.throw_away:
        run.notice(f"an ephemeral key is used: {made.throw_away}")
    run.notice("a dry run: no token service but this process accepts this token")
    return {
        "mount": found.name,
        "role": role,
        "source": "dry-run",
        "access_token": made.creds.access_token.reveal(),
        "token_type": made.creds.token_type,
        "expires_at": made.creds.expires_at,
        "ttl": made.creds.ttl,
        "key_id": made.creds.key_id,
        "request_id": made.creds.request_id,
    }


def direct(
    mount: str,
    role: str,
    ctx: "Ctx | None",
    file: Sequence[str] | None,
    run: CommandRun,
    *,
    source_of: "Callable[[Manifest], ManifestSource]",
) -> dict[str, Any]:
    """Return the data of a token that the vendor's SDK minted, without the server.

    Raises:
        UsageError: the manifest has no such mount or role, the ctx cannot be used, or
            the server that is named is the dev stack.
        InvalidInputError: the credential cannot be used.
        UnhealthyError: the token service gave no token.
    """
    from skyflowctl.engine.ctx import CtxRule
    from skyflowctl.operations.creds_direct import mint_direct

    if dev_stack.dev_stack_is_named():
        raise dev_stack.refuse_direct()
    manifest = manifests.load_named_manifest(file, run).manifest
    found, wanted = _declared(manifest, mount, role)
    source = source_of(manifest)
    account = source.account(found.name)
    rule = CtxRule.of(wanted.ctx.required, wanted.ctx.pattern)
    run.warn(_NO_AUDIT)
    token = mint_direct(account, wanted.role_id, ctx, rule, allowed_hosts=source.allowed_hosts)
    left = (token.expires_at - run.clock.now()).total_seconds()
    return {
        "mount": found.name,
        "role": role,
        "source": "direct",
        "access_token": token.access_token.reveal(),
        "token_type": token.token_type,
        "expires_at": rfc3339(token.expires_at),
        "ttl": max(0, int(left)),
        "key_id": token.key_id,
        "request_id": "",
    }


_NO_AUDIT = Problem(
    "no-audit-entry",
    "no server has a record of this token",
    "--direct goes past it, so no audit log has an entry",
    "use it to find a fault, then ask through the server again",
)


def _declared(manifest: "Manifest", mount: str, role: str) -> "tuple[Mount, Role]":
    """Return the manifest's mount and role with these names."""
    found = next((one for one in manifest.mounts if mount.strip("/") in {one.name, one.path}), None)
    if found is None:
        raise _unknown("mount", mount, [one.name for one in manifest.mounts])
    wanted = next((one for one in found.roles if one.name == role), None)
    if wanted is None:
        raise _unknown("role", role, [one.name for one in found.roles])
    return found, wanted


def _unknown(kind: str, name: str, known: Sequence[str]) -> UsageError:
    return UsageError(
        f"the manifest has no {kind} {name}",
        why=f"without a server only the manifest says which {kind}s there are",
        fix=name_one_of(known),
        code=f"unknown-{kind}",
    )
