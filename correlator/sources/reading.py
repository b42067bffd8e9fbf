"""How a dialect reads a message: JSON texts, fields of a type, and the exception for what cannot be taken."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from correlator.events.event import RejectReason

MAX_DEPTH = 64  # nesting of JSON; real messages of the sources here stay below 12


class Unreadable(Exception):
    """Raised inside a dialect where a message cannot be taken; `decode` turns it into a Reject.

    detail: what is wrong, without a word of the message but names of fields; value: what of the message shows it,
    which rejects of sensitive sources leave out.
    """

    def __init__(self, reason: RejectReason, detail: str, value: object = None) -> None:
        super().__init__(detail if value is None else f"{detail}: {value!r:.200}")
        self.reason = reason
        self.detail = detail


_PLAIN_DEPTH = 8  # levels of nesting that are read without a second look


def _plain_type() -> Any:
    """The type of JSON values of little depth whose whole numbers fit 64 bits.

    msgspec checks both while it reads, which costs nothing; to look at the values later costs as much as
    reading them.
    """
    whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    made: Any = whole | float | str | bool | None
    for _ in range(_PLAIN_DEPTH):
        made = whole | float | str | bool | list[made] | dict[str, made] | None
    return made


_plain = msgspec.json.Decoder(_plain_type())
_any = msgspec.json.Decoder()
_pack = msgspec.msgpack.Encoder().encode


def parse_json(payload: bytes) -> Any:
    """Plain Python values of a JSON text. Raises Unreadable (empty, not_utf8, not_json, too_deep).

    Lone surrogates become U+FFFD, since neither RE2 nor UTF-8 output can carry them; msgspec refuses
    them, so that the usual text need not be searched for any. Whole numbers that do not fit 64 bits
    become their text, since msgpack cannot carry them; rules read both alike.
    """
    try:
        return _plain.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _parse_unusual(payload)


def _parse_unusual(payload: bytes) -> Any:
    """`parse_json` of a text that is broken, nests deeper than most or holds large numbers."""
    if not payload.strip():
        raise Unreadable("empty", "no bytes where a JSON value should be")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
        raise Unreadable("too_deep", f"nests deeper than {MAX_DEPTH}")
    try:
        value = _any.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _parse_again(payload, error)
    try:
        _pack(value)
    except OverflowError:
        value = _fitting(value)
    return value


def _parse_again(payload: bytes, error: Exception) -> Any:
    """The value of a text that msgspec refused only for a lone surrogate; raises Unreadable for any other."""
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError as bad:
        raise Unreadable("not_utf8", f"byte {bad.start} is not UTF-8") from error
    paired = _replace_surrogates(payload)
    if paired == payload:
        raise Unreadable("not_json", str(error)) from error
    return parse_json(paired)


def _replace_surrogates(payload: bytes) -> bytes:
    return re.sub(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
                  lambda found: found[0] if len(found[0]) == 12 else b"\\ufffd", payload)  # fmt: skip


def _fitting(value: Any) -> Any:
    if type(value) is int:
        return value if -(2**63) <= value < 2**64 else str(value)
    if type(value) is list:
        return [_fitting(item) for item in value]
    if type(value) is dict:
        return {key: _fitting(item) for key, item in value.items()}
    return value


def _depth(payload: bytes) -> int:
    """Largest nesting of brackets outside strings."""
    deepest = depth = 0
    in_string = escaped = False
    for byte in payload:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x7B, 0x5B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x7D, 0x5D):
            depth -= 1
    return deepest


def parse_object(payload: bytes) -> dict[str, Any]:
    """`parse_json` of a message that must be a JSON object. Raises Unreadable("wrong_type") otherwise."""
    try:
        value = _plain.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = _parse_unusual(payload)
    if type(value) is not dict:
        raise Unreadable("wrong_type", f"a JSON object was expected, this is {_type_name(value)}")
    return value


def _type_name(value: Any) -> str:
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list",
            dict: "an object", type(None): "null"}.get(type(value), type(value).__name__)  # fmt: skip


def need_text(data: dict[str, Any], name: str) -> str:
    """A field that must be a non-empty text. Raises Unreadable naming the field."""
    value = data.get(name)
    if type(value) is str and value:
        return value
    if value is None or value == "":
        raise Unreadable("missing_field", f"field {name!r} is missing or empty")
    raise Unreadable("wrong_type", f"field {name!r} must be a text, this is {_type_name(value)}")


def optional_text(data: dict[str, Any], name: str) -> str:
    """A field's text, "" if absent or null. Raises Unreadable("wrong_type") for anything but a text."""
    value = data.get(name)
    if value is None:
        return ""
    if type(value) is str:
        return value
    raise Unreadable("wrong_type", f"field {name!r} must be a text, this is {_type_name(value)}")


def need_number(data: dict[str, Any], name: str) -> float | int:
    """A field that must be a JSON number. Raises Unreadable naming the field."""
    value = data.get(name)
    if type(value) is int or type(value) is float:
        return value
    if value is None:
        raise Unreadable("missing_field", f"field {name!r} is missing")
    raise Unreadable("wrong_type", f"field {name!r} must be a number, this is {_type_name(value)}")
