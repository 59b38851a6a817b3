"""Whatever is sent to whatever path: a reply or a plain error, and never a value in it."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engine import Bench, ScriptedTokenService, scenario

from skyflowctl.engine.contract import EngineError, EngineRequest, Operation
from skyflowctl.engine.masking import MASK, WITHHELD

MARK = "zq-secret-value-7"
FIELDS = [
    "credentials_json",
    "credentials_file_path",
    "description",
    "tags",
    "validate_credentials",
    "cas",
    "rotation_id",
    "rotation_to",
    "rotation_keys",
    "credential_version",
    "cas_credential_version",
    "role_ids",
    "ctx_required",
    "ctx_pattern",
    "ctx_probe",
    "force",
    "ctx",
    "refresh",
    "fail",
    "list",
    "after",
    "limit",
    "other",
]
PATHS = [
    "config",
    "config/",
    "config/verify",
    "config/history",
    "config/history/1",
    "config/history/x",
    "config/commit",
    "config/rollback",
    "roles",
    "roles/",
    "roles/r1",
    "roles/new",
    "roles/Bad",
    "creds/r1",
    "creds/r9",
    "health",
    "nothing",
]

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just(MARK)
    | st.just(f"{MARK}\x00")
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
bodies = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=4)


@example(operation=Operation.READ, path="health", body={"fail": True})
@given(
    operation=st.sampled_from([op for op in Operation if op is not Operation.HELP]),
    path=st.sampled_from(PATHS) | st.text(max_size=12),
    body=bodies,
)
@settings(max_examples=300, deadline=None)
@scenario
async def test_any_body_on_any_path(operation, path, body):
    bench = Bench(tokens=ScriptedTokenService())
    await bench.write("roles/r1", role_ids=["skyflow-role-a"])
    await bench.engine.exists(EngineRequest(operation, path, body))
    outcome = await bench.outcome(operation, path, body)
    if isinstance(outcome, EngineError):
        asked_to_fail = path == "health" and body.get("fail") in (True, "true")
        assert outcome.status in (400, 404, 405, 409) or (outcome.status == 503 and asked_to_fail)
        assert MARK not in outcome.message
        assert outcome.__cause__ is None
    else:
        json.dumps(outcome.data)
    assert not [key for key in bench.storage.dump() if key.startswith("wal/")]


CONFIGURED = {}


async def configured_storage():
    """One configured mount, made once: checking its key costs more than all the rest."""
    if not CONFIGURED:
        bench = Bench(tokens=ScriptedTokenService())
        await bench.configured("skyflow-role-a")
        CONFIGURED.update(bench.storage.dump())
    return CONFIGURED


@given(ctx=values, as_query=st.booleans())
@settings(max_examples=150, deadline=None)
@scenario
async def test_any_ctx_is_a_token_or_a_400(ctx, as_query):
    bench = Bench(tokens=ScriptedTokenService())
    bench.storage._values |= await configured_storage()
    operation = "read" if as_query else "update"
    outcome = await bench.outcome(operation, "creds/r1", {"ctx": ctx})
    if isinstance(outcome, EngineError):
        assert outcome.status == 400
        assert MARK not in outcome.message
    else:
        assert outcome.data["access_token"]


@given(
    ctx=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=40),
    before=st.text("abc ", max_size=10),
    after=st.text("abc ", max_size=10),
)
@settings(max_examples=150, deadline=None)
@scenario
async def test_an_echoed_ctx_never_comes_back(ctx, before, after):
    bench = Bench(tokens=ScriptedTokenService())
    bench.storage._values |= await configured_storage()
    bench.tokens.refuse(403, f"{before}{ctx}{after}", "")
    outcome = await bench.outcome("read", "creds/r1", {"ctx": ctx})
    assert isinstance(outcome, EngineError)
    if outcome.status == 502:
        # Our own words and the mask may hold a short ctx by chance.
        said = outcome.message.removeprefix("token service refused: 403 ")
        assert ctx not in said.replace(WITHHELD, "").replace(MASK, "")
