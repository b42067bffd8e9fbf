"""Frames of RFC 6587: the same messages whatever the pieces they arrive in, and bounded memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.inputs.frames import Frames

LIMIT = 64

CASES = {
    "octet counting": (b"9 <34>1 abc7 <34>def", [b"<34>1 abc", b"<34>def"]),
    "a counted message may hold line ends": (b"10 <34>a\nb\ncd5 <1>ab", [b"<34>a\nb\ncd", b"<1>ab"]),
    "a counted message with a trailer of its own": (b"8 <34>abc\n8 <34>def\n", [b"<34>abc", b"<34>def"]),
    "a trailer after a counted message": (b"7 <34>abc\n7 <34>def\n", [b"<34>abc", b"<34>def"]),
    "line feeds": (b"<34>abc\n<34>def\n", [b"<34>abc", b"<34>def"]),
    "CR LF": (b"<34>abc\r\n<34>def\r\n", [b"<34>abc", b"<34>def"]),
    "NUL as trailer": (b"<34>abc\0<34>def\0", [b"<34>abc", b"<34>def"]),
    "both on one connection": (b"7 <34>abc<34>def\n7 <34>ghi", [b"<34>abc", b"<34>def", b"<34>ghi"]),
    "a line without priority that begins with a number": (b"2026 was a year\n", [b"2026 was a year"]),
    "no frame at all is taken up to the line end": (b"hello\n<34>abc\n", [b"hello", b"<34>abc"]),
    "a count with a leading zero is none": (b"07 <34>abc\n", [b"07 <34>abc"]),
    "the longest message": (b"64 <34>" + b"a" * 60 + b"3 <1>", [b"<34>" + b"a" * 60, b"<1>"]),
    "one byte more is cut behind it": (b"66 <34>" + b"a" * 62 + b"3 <1>", [b"<34>" + b"a" * 61, b"<1>"]),
    "a long line is cut and its rest passed over": (b"<34>" + b"a" * 900 + b"\n<1>x\n", [b"<34>" + b"a" * 61, b"<1>x"]),
    "empty lines say nothing": (b"\n\r\n<34>abc\n\n", [b"<34>abc"]),
}


@pytest.mark.parametrize("case", CASES)
def test_frames(case):
    stream, messages = CASES[case]
    assert Frames(LIMIT).feed(stream) == messages


@given(case=st.sampled_from(sorted(CASES)), cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_pieces_change_nothing(case, cuts):
    stream, messages = CASES[case]
    frames = Frames(LIMIT)
    found = []
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(places):
        found += frames.feed(stream[start:end])
    assert found == messages


@given(st.lists(st.binary(max_size=200), max_size=40))
def test_any_bytes_give_messages_within_the_limit_and_little_is_held(pieces):
    frames = Frames(LIMIT)
    for piece in pieces:
        for message in frames.feed(piece):
            assert 0 < len(message) <= LIMIT + 1
        assert len(frames._buffer) <= LIMIT + 12
    for message in frames.end():
        assert len(message) > 0


def test_what_stands_there_when_the_connection_ends_is_the_last_message():
    frames = Frames(LIMIT)
    assert frames.feed(b"<34>abc\n<34>de") == [b"<34>abc"]
    assert frames.end() == [b"<34>de"]
    assert frames.end() == []
