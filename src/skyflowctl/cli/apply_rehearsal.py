"""``apply --dry-run``: the real planner, executor and engine on a server in this process."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from skyflowctl.cli import manifests, wiring
from skyflowctl.cli.envelope import Result, problem_json, status_of
from skyflowctl.cli.options import TargetOptions
from skyflowctl.cli.render.plan import action_json, plan_json, show_plan
from skyflowctl.cli.render.terminal import Styled, Terminal
from skyflowctl.cli.run import Run
from skyflowctl.errors import ExitCode, Problem
from skyflowctl.planner.plan import LEFT_OUT

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.dry_run import DryRunResult
    from skyflowctl.planner.plan import PlanOptions


def rehearse(
    file: Sequence[str] | None,
    target: TargetOptions,
    run: Run,
    parallelism: int,
    options: "Callable[[Manifest], PlanOptions]",
    *,
    allow_hosts: Sequence[str] | None = None,
) -> Result:
    """Carry out the whole apply on a stage, and return what that proved.

    A server that is named is read for its live state and nothing else; with none the
    stage begins empty, and that is said.

    Raises:
        InvalidInput: the manifest or a credential is invalid.
        VaultError: the named server cannot be read.
    """
    from skyflowctl.operations.dry_run import dry_run

    manifest = manifests.load_manifest(file, run).manifest
    named = wiring.server_is_named(target)
    if not named:
        run.notice("no server is named: the dry run begins with an empty one")
    with wiring.open_gateway(target, run) if named else nullcontext() as gateway:
        source = (
            wiring.manifest_credentials(manifest, run, allow_hosts)
            if gateway is None
            else wiring.credentials_for(manifest, gateway, run, allow_hosts)
        )
        done = dry_run(
            manifest,
            source,
            gateway,
            options(manifest),
            parallelism=parallelism,
        )
    return _result(done)


def _result(done: "DryRunResult") -> Result:
    plan = done.planned.plan
    actions = [
        {**action_json(one.action), "result": one.result, "request_id": one.request_id}
        for one in done.outcome.results
    ]
    warnings = (*plan.warnings, *_said(done), *map(_other_engine, done.other_engines))
    data = {
        **plan_json(plan),
        "actions": actions,
        "warnings": [problem_json(warning) for warning in warnings],
        "dry_run": _proved(done),
    }
    problems = _problems(done)
    code = done.exit_code
    changed = "ok" if plan.clean else "changes"
    status = changed if code is ExitCode.OK else status_of(code)
    return Result(data, status, code, problems, warnings)  # type: ignore[arg-type]  # a Status


def _other_engine(path: str) -> Problem:
    return Problem(
        "another-engine",
        f"the server runs another engine at {path} than this dry run did",
        "a dry run exercises skyflowctl's own engine; this one has the basic API alone",
        "take what was proved for the manifest and its keys, not for that engine: "
        f"'skyflowctl health {path} --mint' proves it after an apply",
    )


def _said(done: "DryRunResult") -> list[Problem]:
    """What the engine said about writes, but for those of throw-away keys: nobody's they are."""
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
    }


def _problems(done: "DryRunResult") -> list[Problem]:
    from skyflowctl.operations.apply import skipped

    failed = [one.problem for one in done.outcome.failures if one.problem]
    refused = [one.problem for one in done.minted if one.problem]
    plan = done.planned.plan
    left = [skipped(one) for one in plan.skipped]
    return [*plan.left_out, *failed, *done.unreadable, *left, *refused]


def show_rehearsal(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the plan, then what the rehearsal of it proved."""
    show_plan(data, terminal)
    proved = data["dry_run"]
    minted = sum(one["ok"] for one in proved["minted"])
    well = sum(row["state"] == "ok" for row in proved["health"])
    begin = "the server's live state" if proved["seeded"] else "an empty server"
    terminal.line(Styled("Dry run:", "bold"), f" applied in this process, from {begin}.")
    if LEFT_OUT & {warning["code"] for warning in data["warnings"]}:
        terminal.line(Styled("  A real apply refuses this plan as a whole.", "bold red"))
    terminal.line(f"  {minted} of {len(proved['minted'])} roles minted a token")
    terminal.line(f"  {well} of {len(proved['health'])} mounts are healthy")
    terminal.line(f"  a second plan has {proved['left']} changes")
    for path in proved["other_engines"]:
        terminal.line(Styled("  another engine", "yellow"), f" runs at {path}; this ran ours")
    for mount, reason in proved["throw_away"].items():
        terminal.line(Styled("  throw-away key", "yellow"), f" for {mount}: {reason}")
    for mount in proved["stand_ins"]:
        terminal.line(Styled("  stand-in", "yellow"), f" for the live key of {mount}")
    for mount in proved["unproved"]:
        terminal.line(Styled("  not tried", "yellow"), f": {mount}")
    terminal.line("Nothing was written.")
