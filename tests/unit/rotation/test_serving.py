"""Whether the mount serves is looked at after every bad end, whatever the end was for."""

from __future__ import annotations

import pytest
from support.rotating import PATH, Requests, invalid, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.vault.failed_answers import error_for

pytestmark = pytest.mark.usefixtures("quick_keys")


def forbidden(made):
    transport = Requests(made.server)

    def before(_number, method, path):
        if path.endswith("/config") and method != "GET":
            raise error_for(403, ("permission denied",), method=method, path=path)

    transport.before = before
    return made.dependencies(transport)


@pytest.mark.parametrize("dead", [False, True])
def test_a_credential_that_is_no_good(dead):
    with rig() as made:
        if dead:
            made.state.delete_key(made.client, made.old)
        outcome = made.rotate(invalid)
        assert outcome.serves is not dead
        assert outcome.exit_code is (ExitCode.UNHEALTHY if dead else ExitCode.INVALID)
        assert outcome.problems[0].summary == "no credential"


def test_a_mount_that_is_well_is_not_made_to_mint_again():
    with rig() as made:
        made.gateway.engine(PATH).health()
        asked = made.state.counters.exchanges
        assert made.rotate(invalid).exit_code is ExitCode.INVALID
        assert made.state.counters.exchanges == asked


def test_a_login_that_may_not_write():
    with rig() as made:
        new = made.successor()
        assert made.rotate(lambda: new, forbidden(made)).exit_code is ExitCode.NOT_PERMITTED
        made.state.delete_key(made.client, made.old)
        outcome = made.rotate(lambda: new, forbidden(made))
        assert (outcome.exit_code, outcome.serves) == (ExitCode.UNHEALTHY, False)
