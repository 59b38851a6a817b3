"""Entries whose auths are decoded once are the entries that the decoder gives."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from skyflowctl.audit.entries import Entry, SharedAuths, decode_line
from skyflowctl.audit.envelopes import entries_of
from skyflowctl.audit.lines import split_lines

TOKENS = (b'"a"', b'"a"', b'"b"', b'""', b"1")
AUTHS = (
    b'{"accessor":"x","policies":["root"]}',
    b'{"accessor":"x","policies":["root"] }',
    b'{"accessor":"y","policy_results":{"allowed":true}}',
    b'{"accessor":"x","metadata":{"role_name":"orders"}}',
    b'{"accessor":5}',
    b'{"policies":"root"}',
    b'{"accessor":"\xff"}',
    b"null",
    b"[]",
    b"5",
    b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
)


def fields(entry: Entry | str) -> dict[str, object]:
    assert isinstance(entry, Entry)
    return msgspec.structs.asdict(entry)


@st.composite
def entry_lines(draw: st.DrawFn) -> bytes:
    auth = draw(st.sampled_from([b"", *AUTHS[:4], *AUTHS[:4], *AUTHS]))
    again = draw(st.sampled_from([b"", b"", b"", *AUTHS]))
    fields = [b'"auth":' + auth] * bool(auth) + [b'"auth":' + again] * bool(again)
    token = draw(st.sampled_from(TOKENS[:4]) | st.sampled_from(TOKENS))
    fields.append(b'"request":{"client_token":' + token + b"}")
    return b'{"time":"t","type":"request",' + b",".join(fields) + b"}"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(entry_lines(), min_size=1, max_size=6), max_size=4))
def test_auths_that_are_decoded_once_give_the_same_entries(blocks: list[list[bytes]]) -> None:
    auths = SharedAuths()
    for lines in blocks:
        block = b"\n".join(lines) + b"\n"
        expected = [decode_line(line) for line in split_lines(block)]
        found = entries_of(block, len(block), auths)
        assert (found is not None) == all(isinstance(each, Entry) for each in expected)
        if found is not None:
            assert list(map(fields, found[0])) == list(map(fields, expected))
