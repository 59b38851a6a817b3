"""``apply --dry-run``: the real planner, executor and engine on a server in this process."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.commands.plan_view import plan_json, show_plan
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import credential_sources, gateways, manifests
from skyflowctl.cli.envelope import CommandResult, problem_json, status_of
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.planner.plan import LEFT_OUT

_NOT_PROVABLE = (
    "whether Skyflow knows each key and has not disabled it",
    "whether the account has each Skyflow role",
)

if TYPE_CHECKING:
    from skyflowctl.cli.commands.apply.command import ApplyRequest
    from skyflowctl.credentials.model import CredentialSource
    from skyflowctl.operations.dry_run.run import DryRunResult
    from skyflowctl.vault.gateway import Gateway


def rehearse(request: "ApplyRequest", run: CommandRun) -> CommandResult:
    """Run the whole apply in a sandbox, and return the result.

    From a named server only the live state is read; without one the sandbox begins empty, and the
    output says so.

    Raises:
        InvalidInputError: the manifest or a credential is invalid.
        VaultError: the named server cannot be read.
    """
    from skyflowctl.operations.dry_run.run import dry_run

    manifest = manifests.load_named_manifest(request.plan.file, run).manifest
    named = gateways.server_is_named(request.target)
    if not named:
        run.notice("no server is named: the dry run begins with an empty one")
    with gateways.open_gateway(request.target, run) if named else nullcontext() as gateway:
        resolver = credential_sources.reference_resolver(run, request.plan.references, gateway)
        hosts = request.plan.allow_hosts
        source = (
            credential_sources.manifest_credentials(manifest, run, hosts, resolver)
            if gateway is None
            else credential_sources.credentials_for(manifest, gateway, run, hosts, resolver)
        )
        done = dry_run(
            manifest if gateway is None else credential_sources.manifest_for(manifest, source, run),
            source,
            gateway,
            request.plan.options(manifest),
            parallelism=request.plan.parallelism,
        )
        if request.verify:
            verified = _verified(done, gateway, source, request)
            done = replace(verified, require_verified=request.require_verified)
        address = gateway.transport.server.name if gateway else ""
    return _result(done, address, resolver.connections)


def _verified(
    done: "DryRunResult",
    gateway: "Gateway | None",
    source: "CredentialSource",
    request: "ApplyRequest",
) -> "DryRunResult":
    """Return the result with the token service's answer for each role."""
    from skyflowctl.cli.context.dev_stack import dev_layout
    from skyflowctl.cli.context.rotation import dev_token_hosts
    from skyflowctl.credentials.token_hosts import token_hosts
    from skyflowctl.operations.dry_run.verify import verify_declared
    from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand

    hosts = token_hosts(request.plan.allow_hosts, os.environ)
    layout = dev_layout(gateway) if gateway else None
    hosts |= dev_token_hosts(layout) if layout else frozenset()
    service = partial(TokenServiceOnDemand, layout.ca if layout else None)
    verified = verify_declared(
        done.planned,
        gateway,
        source,
        hosts,
        new_service=service,
        parallelism=request.plan.parallelism,
    )
    return replace(done, verified=verified)


def _result(
    done: "DryRunResult", address: str, references: Sequence[tuple[str, str]] = ()
) -> CommandResult:
    plan = done.planned.plan
    actions = [
        {**one.action.to_json(), "result": one.result, "request_id": one.request_id}
        for one in done.outcome.results
    ]
    doubts = [one.verified.problem for one in done.verified if one.verified.result == "unproven"]
    warnings = (
        *plan.warnings,
        *_said(done),
        *map(_other_engine, done.other_engines),
        *(one for one in doubts if one),
    )
    connections = [
        *_connections(done, address),
        *({"to": place, "for": text} for place, text in references),
    ]
    data = {
        **plan_json(plan),
        "actions": actions,
        "warnings": [problem_json(warning) for warning in warnings],
        "dry_run": {**_proved(done), "connections": connections},
    }
    problems = _problems(done)
    code = done.exit_code
    changed = "ok" if plan.clean else "changes"
    status = changed if code is ExitCode.OK else status_of(code)
    return CommandResult(data, status, code, problems, warnings)  # type: ignore[arg-type]  # a Status


def _other_engine(path: str) -> Problem:
    return Problem(
        "another-engine",
        f"the server runs another engine at {path} than this dry run did",
        "a dry run exercises skyflowctl's own engine; this one has the basic API alone",
        "take what was proved for the manifest and its keys, not for that engine: "
        f"'skyflowctl health {path} --mint' proves it after an apply",
    )


def _said(done: "DryRunResult") -> list[Problem]:
    """Return the engine's warnings about writes, except those about throw-away keys."""
    meant = (one for one in done.outcome.results if one.action.mount not in done.throw_away)
    return [warning for result in meant for warning in result.warnings]


def _proved(done: "DryRunResult") -> dict[str, Any]:
    return {
        "seeded": done.seeded,
        "throw_away": dict(done.throw_away),
        "stand_ins": list(done.stand_ins),
        "other_engines": list(done.other_engines),
        "minted": [
            {
                "mount": one.mount,
                "role": one.role,
                "ok": one.problem is None,
                "expires_at": one.expires_at,
                "problem": problem_json(one.problem) if one.problem else None,
            }
            for one in done.minted
        ],
        "unproved": list(done.unproved),
        "health": [row.to_json() for row in done.health.mounts],
        "left": done.left,
        "engine_hosts": None if done.engine_hosts is None else sorted(done.engine_hosts),
        "verified": [
            {
                "mount": one.verified.mount,
                "role": one.verified.role,
                "result": one.verified.result,
                "asked": one.asked,
            }
            for one in done.verified
        ],
        "not_provable": [] if done.verified else list(_NOT_PROVABLE),
    }


def _connections(done: "DryRunResult", address: str) -> list[dict[str, str]]:
    """Return every connection that was made, and its purpose."""
    asked = dict.fromkeys(one.asked for one in done.verified if one.asked)
    made = [{"to": address, "for": "the live state"}] if address else []
    for place in asked:
        if "/" in place:
            made.append({"to": address, "for": place})
        else:
            made.append({"to": place, "for": "tokens"})
    return made


def _problems(done: "DryRunResult") -> list[Problem]:
    failed = [one.problem for one in done.outcome.failures if one.problem]
    refused = [one.problem for one in done.minted if one.problem]
    plan = done.planned.plan
    left = (*done.unreadable, *done.planned.skipped)
    return [
        *plan.left_out,
        *plan.unadopted,
        *plan.unmoved,
        *failed,
        *left,
        *refused,
        *done.unverified,
    ]


def _hosts_text(hosts: Sequence[str] | None) -> str:
    if hosts is None:
        return "not proved; which hosts the server's engine allows is not known"
    return f"checked against the hosts in the server's catalog: {', '.join(hosts)}"


def _show_token_service(proved: Mapping[str, Any], terminal: Terminal) -> None:
    if not proved["verified"]:
        terminal.line(Styled("Not provable without the token service:", "bold"))
        for text in proved["not_provable"]:
            terminal.line(f"  {text}")
        terminal.line("  --verify asks it")
    else:
        good = sum(one["result"] == "ok" for one in proved["verified"])
        terminal.line(Styled("Proved by the token service:", "bold"))
        terminal.line(f"  {good} of {len(proved['verified'])} roles mint")
    for one in proved["connections"]:
        terminal.line(f"  connected to {one['to']} for {one['for']}")


def show_sandbox(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the plan, then the result of the dry run."""
    show_plan(data, terminal)
    proved = data["dry_run"]
    minted = sum(one["ok"] for one in proved["minted"])
    well = sum(row["state"] == "ok" for row in proved["health"])
    begin = "the server's live state" if proved["seeded"] else "an empty server"
    terminal.line(Styled("Dry run:", "bold"), f" applied in this process, from {begin}.")
    if LEFT_OUT & {warning["code"] for warning in data["warnings"]}:
        terminal.line(Styled("  A real apply refuses this plan as a whole.", "bold red"))
    terminal.line(Styled("Rules proved on the real engine:", "bold"))
    terminal.line(f"  {minted} of {len(proved['minted'])} roles: config, role and ctx rule")
    terminal.line(f"  {well} of {len(proved['health'])} mounts: health")
    terminal.line(f"  tokenURI: {_hosts_text(proved['engine_hosts'])}")
    terminal.line(f"  a second plan has {proved['left']} changes")
    _show_token_service(proved, terminal)
    for path in proved["other_engines"]:
        terminal.line(Styled("  another engine", "yellow"), f" runs at {path}; this ran ours")
    for mount, reason in proved["throw_away"].items():
        terminal.line(Styled("  ephemeral key", "yellow"), f" for {mount}: {reason}")
    for warning in data["warnings"]:
        if warning["code"] == "secret-unresolved":
            terminal.line(Styled("  ephemeral value", "yellow"), f": {warning['summary']}")
    for mount in proved["stand_ins"]:
        terminal.line(Styled("  stand-in", "yellow"), f" for the live key of {mount}")
    for mount in proved["unproved"]:
        terminal.line(Styled("  not tried", "yellow"), f": {mount}")
    terminal.line("Nothing was written.")
