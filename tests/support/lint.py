"""Short forms for tests of the credential lint."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from skyflowctl.skyflow.service_account import (
    InvalidCredentialError,
    ServiceAccount,
    parse_service_account,
)
from support.keys import credential_text

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def accept(text: str, **options) -> tuple[ServiceAccount, list[str]]:
    account, warnings = parse_service_account(text, now=NOW, **options)
    assert all(finding.level == "warning" and finding.fix for finding in warnings)
    return account, [finding.code for finding in warnings]


def refuse(text: str, **options) -> list[str]:
    with pytest.raises(InvalidCredentialError) as caught:
        parse_service_account(text, now=NOW, **options)
    findings = caught.value.findings
    assert all(finding.level == "error" and finding.message and finding.fix for finding in findings)
    return [finding.code for finding in findings]


def changed(**changes) -> str:
    return credential_text(now=NOW, **changes)


def rewrapped(pem: str, width: int) -> str:
    first, *body, last = pem.splitlines()
    joined = "".join(body)
    lines = [joined[at : at + width] for at in range(0, len(joined), width)]
    return "\n".join([first, *lines, last])
