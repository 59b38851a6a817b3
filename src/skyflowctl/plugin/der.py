"""A self-signed certificate in DER (X.690, RFC 5280), for ``localhost`` and ECDSA on P-256.

The plugin makes one at every start, with its key (RFC 5915, RFC 5480). The library for it
(``cryptography.x509`` and ``serialization``) takes 30 ms to import, and delays every restarted
mount. The tests read the results with that library.
"""

from collections.abc import Callable
from datetime import datetime

_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x01, 0x02, 0x03, 0x04, 0x06
_UTF8, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _SET = 0x0C, 0x17, 0x18, 0x30, 0x31
_VERSION_FIELD, _EXTENSIONS_FIELD, _DNS_NAME = 0xA0, 0xA3, 0x82
_CURVE_FIELD, _POINT_FIELD = 0xA0, 0xA1

_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_EC_PUBLIC_KEY, _P256 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7"
_COMMON_NAME = "2.5.4.3"
_KEY_USAGE, _ALTERNATIVE_NAME, _BASIC_CONSTRAINTS = "2.5.29.15", "2.5.29.17", "2.5.29.19"
_EXTENDED_USAGE = "2.5.29.37"
_SERVER_AUTH, _CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
# digitalSignature, keyEncipherment, keyAgreement and keyCertSign; two bits unused.
_USAGE_BITS = b"\x02\xac"


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(number) for number in dotted.split("."))
    encoded = bytearray([first * 40 + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return _tlv(_OID, bytes(encoded))


def _integer(number: int) -> bytes:
    return _tlv(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return _tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def _name(common_name: str) -> bytes:
    value = _tlv(_UTF8, common_name.encode())
    return _tlv(_SEQUENCE, _tlv(_SET, _tlv(_SEQUENCE, _oid(_COMMON_NAME), value)))


def _extension(oid: str, value: bytes, *, critical: bool) -> bytes:
    flag = _tlv(_BOOLEAN, b"\xff") if critical else b""
    return _tlv(_SEQUENCE, _oid(oid), flag, _tlv(_OCTET_STRING, value))


def _extensions(dns_name: str) -> bytes:
    usages = _tlv(_SEQUENCE, _oid(_CLIENT_AUTH), _oid(_SERVER_AUTH))
    is_ca = _tlv(_SEQUENCE, _tlv(_BOOLEAN, b"\xff"))
    names = _tlv(_SEQUENCE, _tlv(_DNS_NAME, dns_name.encode()))
    return _tlv(
        _SEQUENCE,
        _extension(_ALTERNATIVE_NAME, names, critical=False),
        _extension(_BASIC_CONSTRAINTS, is_ca, critical=True),
        _extension(_KEY_USAGE, _tlv(_BIT_STRING, _USAGE_BITS), critical=True),
        _extension(_EXTENDED_USAGE, usages, critical=False),
    )


def p256_public_key(point: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of an uncompressed point (65 bytes)."""
    algorithm = _tlv(_SEQUENCE, _oid(_EC_PUBLIC_KEY), _oid(_P256))
    return _tlv(_SEQUENCE, algorithm, _tlv(_BIT_STRING, b"\0" + point))


def p256_private_key(number: int, point: bytes) -> bytes:
    """Return the ECPrivateKey of a private number and its uncompressed point."""
    return _tlv(
        _SEQUENCE,
        _integer(1),
        _tlv(_OCTET_STRING, number.to_bytes(32)),
        _tlv(_CURVE_FIELD, _oid(_P256)),
        _tlv(_POINT_FIELD, _tlv(_BIT_STRING, b"\0" + point)),
    )


def self_signed(
    name: str,
    public_key: bytes,
    sign: Callable[[bytes], bytes],
    *,
    serial: int,
    valid: tuple[datetime, datetime],
) -> bytes:
    """Return a self-signed certificate for client and server use.

    Args:
        name: the common name and the one DNS name.
        public_key: SubjectPublicKeyInfo in DER.
        sign: makes the ECDSA signature (SHA-256, DER) of what is signed.
        serial: a random positive number of at most 159 bits.
        valid: first and last moment, in UTC.
    """
    algorithm = _tlv(_SEQUENCE, _oid(_ECDSA_WITH_SHA256))
    content = _tlv(
        _SEQUENCE,
        _tlv(_VERSION_FIELD, _integer(2)),
        _integer(serial),
        algorithm,
        _name(name),
        _tlv(_SEQUENCE, _time(valid[0]), _time(valid[1])),
        _name(name),
        public_key,
        _tlv(_EXTENSIONS_FIELD, _extensions(name)),
    )
    return _tlv(_SEQUENCE, content, algorithm, _tlv(_BIT_STRING, b"\0" + sign(content)))
