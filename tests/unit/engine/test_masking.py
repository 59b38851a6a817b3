"""The token service's words never carry a ctx or a token onwards."""

import base64
import json
from urllib.parse import quote

import pytest

from skyflowctl.engine.masking import MASK, WITHHELD, mask_ctx

CTX = 'patient: Zoë "7/8"'


@pytest.mark.parametrize(
    "spelling",
    [
        CTX,
        CTX.upper(),
        CTX.replace(" ", "\t  "),
        json.dumps(CTX),
        json.dumps(CTX, ensure_ascii=False),
        quote(CTX),
        quote(CTX, safe=""),
        repr(CTX),
    ],
)
def test_every_usual_spelling_is_masked(spelling):
    masked = mask_ctx(f"context {spelling} is not allowed", CTX)
    assert MASK in masked
    assert "7/8" not in masked
    assert "7%2F8" not in masked
    assert masked.startswith("context ")
    assert masked.endswith(" is not allowed")


def test_a_message_cut_within_the_ctx():
    assert mask_ctx("no such customer-12345678", "customer-1234567890") == f"no such {MASK}"
    assert mask_ctx("no such customer-12…", "customer-1234567890") == f"no such {MASK}"


def test_a_short_ctx_withholds_the_message():
    assert mask_ctx("role 42 is unknown", "42") == WITHHELD
    assert mask_ctx("role is unknown", "42") == "role is unknown"


def test_a_short_ctx_does_not_hide_why_the_service_was_not_reached():
    reason = "127.0.0.1:35453: its certificate is not trusted"
    assert mask_ctx(reason, {"batch": 0}, own_words=True) == reason
    assert mask_ctx("redirected to a-person.example", "a-person", own_words=True) == (
        f"redirected to {MASK}.example"
    )


def test_objects_are_masked_value_by_value_and_as_a_whole():
    ctx = {"tenant": "globex", "level": 12345, "vip": True}
    assert "globex" not in mask_ctx(f"got {json.dumps(ctx)}", ctx)
    assert mask_ctx("tenant GLOBEX at 12345", ctx) == f"tenant {MASK} at {MASK}"


def test_tokens_and_assertions_are_masked_without_any_ctx():
    part = base64.urlsafe_b64encode(b'{"alg":"RS256"}').rstrip(b"=").decode()
    masked = mask_ctx(f"bad assertion {part}.{part}.sig_nature end", None)
    assert masked == f"bad assertion {MASK} end"


def test_other_words_stay():
    assert mask_ctx("Scopes in request token in wrong format", "order:42") == (
        "Scopes in request token in wrong format"
    )
