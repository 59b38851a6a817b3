"""Config and role writes with check-and-set agree with a small model of them."""

import asyncio
import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.engine import Bench, ScriptedTokenService

from skyflowctl.engine.contract import EngineError

NAMES = st.sampled_from(["a", "b"])
CAS = st.none() | st.integers(0, 4)
TEXTS = st.sampled_from(["", "x", "y"])
KEYS = {}


def key(number):
    """One of three credentials, made once a process."""
    if number not in KEYS:
        KEYS[number] = Bench(tokens=ScriptedTokenService()).key()
    return KEYS[number]


class Mount(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.bench = Bench(tokens=ScriptedTokenService())
        self.loop = asyncio.new_event_loop()
        self.config = {"version": 0, "credential": None, "credential_version": 0, "text": ""}
        self.roles = {}
        # The keys that are kept, oldest first; those that a cut-off destroyed, for good.
        self.kept, self.revoked, self.is_cut_off = [], set(), False

    def teardown(self):
        self.loop.close()

    def status(self, operation, path, data):
        """Make the call; return 200 or the error's status."""
        data = {name: value for name, value in data.items() if value is not None}
        try:
            self.loop.run_until_complete(self.bench.call(operation, path, data))
        except EngineError as error:
            return error.status
        return 200

    def lost(self, cas, exists, version):
        return cas is not None and cas != version and (cas != 0 or exists)

    @rule(
        number=st.none() | st.integers(0, 2),
        text=st.none() | TEXTS,
        cas=CAS,
        allowed=st.none() | st.integers(0, 2),
    )
    def write_config(self, number, text, cas, allowed):
        text_given = None if number is None else key(number)
        body = {"credentials_json": text_given, "description": text, "cas": cas}
        body["allow_revoked_key"] = None if allowed is None else json.loads(key(allowed))["keyID"]
        status = self.status("update", "config", body)
        model = self.config
        if self.lost(cas, model["credential"] is not None, model["version"]):
            assert status == 409
        elif number is None and model["credential"] is None:
            assert status == 400
        elif number in self.revoked and number not in (model["credential"], allowed):
            assert status == 409
        else:
            assert status == 200
            model["version"] += 1
            if text is not None:
                model["text"] = text
            if number is not None and number != model["credential"]:
                model["credential"] = number
                model["credential_version"] += 1
                self.kept = [*self.kept, number][-3:]
                self.is_cut_off = False

    @rule(cas=CAS)
    def cut_off(self, cas):
        model = self.config
        status = self.status("delete", "config", {"cas": None if cas is None else str(cas)})
        if self.lost(cas, model["credential"] is not None, model["version"]):
            assert status == 409
            return
        assert status == 200
        if model["credential"] is not None:
            model.update(version=model["version"] + 1, credential=None)
            self.revoked |= set(self.kept)
            self.kept, self.is_cut_off = [], True

    @rule(name=NAMES, role=st.none() | st.sampled_from(["r1", "r2"]), cas=CAS, force=st.booleans())
    def write_role(self, name, role, cas, force):
        body = {"role_ids": role and [role], "cas": cas, "force": force}
        status = self.status("update", f"roles/{name}", body)
        known = self.roles.get(name)
        if (cas is not None and cas != (known[1] if known else 0)) or (known and not force):
            assert status == 409
        elif not known and role is None:
            assert status == 400
        else:
            assert status == 200
            self.roles[name] = (role or known[0], known[1] + 1 if known else 1)

    @rule(name=NAMES)
    def delete_role(self, name):
        assert self.status("delete", f"roles/{name}", {}) == 200
        self.roles.pop(name, None)

    @rule()
    def restart(self):
        self.bench.engine = self.bench.restarted()

    @invariant()
    def agree(self):
        read = self.loop.run_until_complete(self.bench.read("config"))
        model = self.config
        assert read["version"] == model["version"]
        assert read["credential_version"] == model["credential_version"]
        assert read["credentials_configured"] is (model["credential"] is not None)
        assert read["description"] == model["text"]
        assert bool(read["revoked"]) is self.is_cut_off
        listed = self.loop.run_until_complete(self.bench.list("roles")) or {"key_info": {}}
        assert {
            name: (role["role_ids"][0], role["version"])
            for name, role in listed["key_info"].items()
        } == self.roles
        kept = [name for name in self.bench.storage.dump() if name.startswith("credential/")]
        assert len(kept) == len(self.kept)
        marks = [name for name in self.bench.storage.dump() if name.startswith("revoked/")]
        assert len(marks) == len(self.revoked)


TestMount = Mount.TestCase
TestMount.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
