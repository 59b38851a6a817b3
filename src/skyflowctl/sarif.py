"""SARIF 2.1.0, the format of findings that code scanners and dashboards accept."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from skyflowctl.errors import ExitCode, Problem, Where
from skyflowctl.frozen import dataclass
from skyflowctl.version import semver

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_DID_NOT_RUN = frozenset(
    {
        ExitCode.UNEXPECTED,
        ExitCode.NOT_PERMITTED,
        ExitCode.USAGE,
        ExitCode.UNREACHABLE,
        ExitCode.INTERRUPTED,
        ExitCode.TERMINATED,
    }
)
"""Exit codes of a command that could not look: an empty list of results then proves nothing."""
_NO_MANIFEST = "mounts.yaml"


@dataclass(frozen=True, slots=True)
class SarifFinding:
    """One problem and how serious it is.

    Args:
        level: ``error``, ``warning`` or ``note``.
        problem: its code is the id of the rule.
        path: the object that it is about, as the server names it; empty if it is about none.
    """

    level: str
    problem: Problem
    path: str = ""


def sarif_log(
    run: Mapping[str, Any],
    rules: Sequence[Mapping[str, Any]],
    taxonomies: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return a log with one run of skyflowctl, whose positions count code points."""
    driver: dict[str, Any] = {
        "name": "skyflowctl",
        "semanticVersion": semver().removeprefix("v"),
        "rules": list(rules),
    }
    run = {"tool": {"driver": driver}, **run, "columnKind": "unicodeCodePoints"}
    if taxonomies:
        driver["supportedTaxonomies"] = [
            taxonomy_reference(one["name"], number) for number, one in enumerate(taxonomies)
        ]
        run["taxonomies"] = list(taxonomies)
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def taxonomy_reference(name: str, index: int) -> dict[str, Any]:
    """Return the reference to one of a log's taxonomies."""
    return {"name": name, "index": index}


def sarif_rule(id_: str, title: str, explained: str, **more: Any) -> dict[str, Any]:
    """Return a rule; its name is its id in Pascal case."""
    return {
        "id": id_,
        "name": "".join(word.capitalize() for word in id_.replace("_", "-").split("-")),
        "shortDescription": {"text": title},
        "fullDescription": {"text": explained},
        "defaultConfiguration": {"level": "warning"},
        **more,
    }


def physical_location(where: Where, file: str) -> dict[str, Any]:
    """Return a position in a file; a relative path stays relative."""
    path = PurePath(file)
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri}}
    if where.line is not None:
        physical["region"] = {"startLine": where.line}
        if where.column is not None:
            physical["region"]["startColumn"] = where.column
    return physical


def logical_location(name: str, server: str) -> list[dict[str, Any]]:
    """Return the location of an object on a server."""
    return [{"name": name, "fullyQualifiedName": f"{server}/{name}", "kind": "resource"}]


def fingerprint(parts: Iterable[str]) -> str:
    """Return a digest of what identifies a finding in every run."""
    return hashlib.sha256("\0".join(parts).encode(errors="backslashreplace")).hexdigest()


def findings_log(
    findings: Sequence[SarifFinding], *, exit_code: int, manifest: str, server: str = ""
) -> dict[str, Any]:
    """Return the log of a command that checks a manifest.

    A finding without a position in a file gets the manifest's first line, because scanners of
    source code refuse results without a file. If the command could not look, such findings are
    notifications instead: they say nothing about the manifest.

    Args:
        findings: what was found, in order.
        exit_code: the command's exit code.
        manifest: the first file of the manifest; empty: the default one.
        server: the address of the server that was compared; empty: none.
    """
    ran = exit_code not in _DID_NOT_RUN
    codes = list(dict.fromkeys(one.problem.code for one in findings))
    index = {code: number for number, code in enumerate(codes)}
    placed = [one for one in findings if ran or one.problem.where is not None]
    missed = [one for one in findings if one not in placed]
    invocation = {
        "executionSuccessful": ran,
        "exitCode": int(exit_code),
        "toolExecutionNotifications": [
            {
                "level": one.level,
                "message": {"text": _message(one.problem)},
                "associatedRule": {"id": one.problem.code, "index": index[one.problem.code]},
            }
            for one in missed
        ],
    }
    seen = Counter[tuple[str, ...]]()
    results = []
    for one in placed:
        result = _result(one, manifest or _NO_MANIFEST, server, seen)
        results.append({"ruleIndex": index[one.problem.code], **result})
    rules = [_rule(code, findings) for code in codes]
    return sarif_log({"invocations": [invocation], "results": results}, rules)


def _rule(code: str, findings: Sequence[SarifFinding]) -> dict[str, Any]:
    first = next(one for one in findings if one.problem.code == code)
    title = code.replace("-", " ").replace("_", " ").capitalize()
    # The texts of a rule are those of its first finding: a code has no text of its own.
    explained = first.problem.why or title
    return sarif_rule(
        code,
        title,
        explained,
        help={"text": first.problem.fix or explained},
        defaultConfiguration={"level": first.level},
    )


def _result(
    one: SarifFinding, manifest: str, server: str, seen: Counter[tuple[str, ...]]
) -> dict[str, Any]:
    problem = one.problem
    where = problem.where if problem.where and problem.where.file else Where(manifest, 1)
    file = where.file or manifest
    location: dict[str, Any] = {"physicalLocation": physical_location(where, file)}
    if one.path:
        location["logicalLocations"] = logical_location(one.path, server)
    # Not the line: it moves with every edit above it.
    about = one.path or (problem.where and problem.where.pointer) or problem.summary
    key = (problem.code, file, about)
    seen[key] += 1
    return {
        "ruleId": problem.code,
        "kind": "fail",
        "level": one.level,
        "message": {"text": _message(problem)},
        "locations": [location],
        "partialFingerprints": {"skyflowctlProblem/v1": fingerprint((*key, str(seen[key])))},
        "properties": {"fix": problem.fix},
    }


def _message(problem: Problem) -> str:
    fix = f"fix: {problem.fix}" if problem.fix else ""
    text = ". ".join(one for one in (problem.summary, problem.why, fix) if one)
    # A value must not become a link (section 3.11.6 of the standard).
    return text.replace("](", "] (")
