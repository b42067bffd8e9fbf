"""How a JSON message is read: depth, numbers, surrogates, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.sources.reading import MAX_DEPTH, Unreadable, parse_json, parse_object


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("levels", [1, 7, 8, 9, 10, 30, MAX_DEPTH])
def test_nesting_up_to_the_limit_is_read(levels: int) -> None:
    value: Any = parse_json(nested(levels))
    for _ in range(levels):
        value = value["a"]
    assert value == 1


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_nesting_beyond_the_limit_is_refused(levels: int, opening: bytes, closing: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        parse_json(opening * levels + b"1" + closing * levels)
    assert refused.value.reason == "too_deep"


def test_brackets_in_a_text_are_no_nesting() -> None:
    assert parse_json(b'["' + b"[{" * 400 + b'"]') == ["[{" * 400]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("9223372036854775807", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" + "0" * 60, "1" + "0" * 60),
    ],
)
def test_a_whole_number_beyond_64_bits_is_kept_as_text(written: str, read: Any) -> None:
    assert parse_json(f'{{"a": [{{"b": {written}}}], "c": 1}}'.encode()) == {"a": [{"b": read}], "c": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b'{"a": 1', "not_json"),
        (b"{'a': 1}", "not_json"),
        (b'{"a": 1} x', "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": 1e999}', "not_json"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a": "\\ud83d\\ude00" 1}', "not_json"),
        (b'{"a": "\\ud83d" 1}', "not_json"),
    ],
)
def test_what_cannot_be_read_has_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        parse_json(payload)
    assert refused.value.reason == reason


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_a_message_that_must_be_an_object_and_is_not_has_the_wrong_type(payload: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        parse_object(payload)
    assert refused.value.reason == "wrong_type"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6).filter(str.isascii), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=json_values)
def test_what_fits_is_read_as_any_json_reader_reads_it(value: Any) -> None:
    assert parse_json(msgspec.json.encode(value)) == msgspec.json.decode(msgspec.json.encode(value))


# Escapes of code units, most of them halves of pairs, among letters.
escapes = st.lists(
    st.one_of(st.integers(0xD7F0, 0xE010), st.integers(0x20, 0xFFFF)).map(lambda unit: f"\\u{unit:04x}")
    | st.sampled_from(["a", "\\n", "\\\\", "\\\\u"]),
    max_size=6,
).map("".join)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(key=escapes, text=escapes)
def test_no_half_of_a_pair_stays_in_what_was_read(key: str, text: str) -> None:
    value = parse_json(f'{{"{key}": ["{text}"]}}'.encode())
    ((name, (item,)),) = value.items()
    assert not any("\ud800" <= letter <= "\udfff" for letter in name + item)
