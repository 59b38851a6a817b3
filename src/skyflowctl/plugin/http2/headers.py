"""Header blocks: HPACK by its library, with the results of the blocks that come again kept."""

from collections.abc import Iterable

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError

from skyflowctl.plugin.http2.frames import ErrorCode, Http2Error, MalformedError

MAX_HEADER_LIST = 32_768
"""Bytes of one message's header fields, as section 6.5.2 counts them; also of an encoded block."""

HeaderList = list[tuple[bytes, bytes]]
FieldTuple = tuple[tuple[bytes, bytes], ...]

_KEPT_BLOCKS = 64
_LEADING_REFERENCES = 8
_TABLE_SIZE = 4096
_CONNECTION_FIELDS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED_PSEUDO = (b":method", b":scheme", b":path")


class HeaderReader:
    """Decodes the peer's header blocks.

    A block that consists of references to the table means the same as long as the table does not
    change, so its result is kept until then.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
        self._kept: dict[bytes, HeaderList] = {}

    def decode(self, block: bytes) -> HeaderList:
        """Return the fields of a block.

        Raises:
            Http2Error: the block cannot be decoded, or its fields are too large. As the table
                is then unknown, the connection cannot go on.
        """
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        try:
            headers = self._decode(block)
        except OversizedHeaderListError:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large") from None
        except (HPACKError, IndexError, ValueError) as error:
            text = f"a header block cannot be decoded: {type(error).__name__}"
            raise Http2Error(ErrorCode.COMPRESSION_ERROR, text) from None
        # Bytes from 0x80 to 0xFE are references of one byte each: they change nothing.
        if block and min(block) >= 0x80 and max(block) < 0xFF:
            if len(self._kept) < _KEPT_BLOCKS:
                self._kept[block] = headers
        else:
            self._kept.clear()
        return headers

    def _decode(self, block: bytes) -> HeaderList:
        """Look the leading references up here: in nearly every block that is all but one field.

        They are few, and a field of the table has at most 4 KiB, so together they are bounded.
        """
        table = self._decoder.header_table
        headers: HeaderList = []
        for byte in block[:_LEADING_REFERENCES]:
            if not 0x80 < byte < 0xFF:
                break
            headers.append(table.get_by_index(byte & 0x7F))
        rest = block[len(headers) :]
        if headers and rest and 0x20 <= rest[0] < 0x40:
            raise HPACKError("a change of the table's size must come first")
        if rest:
            headers += self._decoder.decode(rest, raw=True)
        return headers


class HeaderWriter:
    """Encodes our header blocks; the constant ones become references to the peer's table."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._kept: dict[object, bytes] = {}

    def constant(self, headers: FieldTuple) -> bytes:
        """Return a block that is sent again and again, such as the headers of every reply."""
        block = self._kept.get(headers)
        if block is None:
            before = list(self._encoder.header_table.dynamic_entries)
            block = self._encoder.encode(headers)
            if list(self._encoder.header_table.dynamic_entries) == before:
                self._kept[headers] = block
            else:
                self._kept.clear()  # every reference has moved
        return block

    def single(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return a block that is sent once, such as an error's; it leaves the table alone."""
        return self._encoder.encode([(name, value, True) for name, value in headers])

    def limit_table(self, size: int) -> None:
        """Obey the peer's HEADER_TABLE_SIZE."""
        self._encoder.header_table_size = min(size, _TABLE_SIZE)
        self._kept.clear()


def check_request(headers: HeaderList) -> dict[bytes, bytes]:
    """Return the fields of a request by name; the last of several values counts.

    Raises:
        MalformedError: a rule of RFC 9113, section 8.2 or 8.3.1, is broken.
    """
    fields: dict[bytes, bytes] = {}
    begun = False
    for name, value in headers:
        if name[:1] != b":":
            begun = True
            _check_field(name, value)
        elif begun or name in fields or name not in _REQUEST_PSEUDO:
            raise MalformedError("a pseudo-header is unknown, repeated or late")
        fields[name] = value
    if not (all(name in fields for name in _NEEDED_PSEUDO) and fields[b":path"]):
        raise MalformedError("a pseudo-header is missing")
    return fields


def check_reply(headers: HeaderList, *, trailers: bool) -> dict[bytes, bytes]:
    """Return the fields of a reply's headers, or of any message's trailers, by name.

    Raises:
        MalformedError: as for a request.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] != b":":
            _check_field(name, value)
        elif trailers or name != b":status" or fields:
            raise MalformedError("a pseudo-header is unknown, repeated or late")
        fields[name] = value
    if not trailers and b":status" not in fields:
        raise MalformedError("the status is missing")
    return fields


def _check_field(name: bytes, value: bytes) -> None:
    if not name or name != name.lower() or name in _CONNECTION_FIELDS:
        raise MalformedError("a field's name is not allowed")
    if name == b"te" and value != b"trailers":
        raise MalformedError("te is not trailers")
    if b"\0" in value or b"\r" in value or b"\n" in value:
        raise MalformedError("a field's value is not allowed")
