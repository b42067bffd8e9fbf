"""Syslog messages out of a byte stream: octet counting and non-transparent framing, told apart per frame.

RFC 6587 section 3.4.1: `MSG-LEN SP MSG`, the length in decimal without leading zero. Section 3.4.2: the
message ends with a trailer, in practice LF (or NUL). A syslog message begins with "<", so a digit in
front of a frame means octet counting; senders that change their mind within a connection are followed.
RFC 5425 (TLS) asks for octet counting; the other is taken there too, as rsyslog and syslog-ng do.

A longer message than allowed is cut one byte behind the limit, so that ingest rejects it as too large
with its beginning as proof; its rest is skipped without being kept. Bytes that begin no frame are taken
up to the next LF as one message: ingest says what is wrong with it.
"""

from __future__ import annotations

from typing import Final

_MAX_COUNT_DIGITS: Final = 9
_ENDS: Final = (b"\n", b"\0")


class Frames:
    """The frames of one connection: `feed` bytes, get whole messages. Holds at most one message's bytes."""

    __slots__ = ("_buffer", "_limit", "_skip", "cut")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._skip = 0  # bytes of a counted message that are passed over; -1: up to the next trailer
        self.cut = 0  # messages that were longer than the limit

    def feed(self, data: bytes) -> list[bytes]:
        """Messages that are now whole, in order, without their framing; empty ones are left out."""
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        while buffer:
            if self._skip > 0:
                passed = min(self._skip, len(buffer))
                del buffer[:passed]
                self._skip -= passed
                continue
            if self._skip < 0:
                end = _end_of_line(buffer, len(buffer))
                if end < 0:
                    buffer.clear()
                    break
                del buffer[: end + 1]
                self._skip = 0
                continue
            if buffer[0] in b"\n\r\0 ":
                del buffer[:1]
                continue
            if not self._take(found):
                break
        return found

    def end(self) -> list[bytes]:
        """The connection has ended: what stands without a trailer, or is shorter than its count, is the last one."""
        rest = b"" if self._skip else bytes(self._buffer).rstrip(b"\r\n\0")
        self._buffer.clear()
        return [rest] if rest else []

    def _take(self, found: list[bytes]) -> bool:
        """Takes one frame from the front of the buffer; False if it is not whole yet."""
        buffer = self._buffer
        count = _count(buffer)
        if count is not None:
            digits, length = count
            if digits < 0:
                return False
            if length > self._limit:
                if len(buffer) < digits + 1 + self._limit + 1:
                    return False
                found.append(bytes(buffer[digits + 1 : digits + 2 + self._limit]))
                self.cut += 1
                self._skip = digits + 1 + length
                return True
            if len(buffer) < digits + 1 + length:
                return False
            message = bytes(buffer[digits + 1 : digits + 1 + length]).rstrip(b"\r\n\0")
            del buffer[: digits + 1 + length]
            if message:
                found.append(message)
            return True
        end = _end_of_line(buffer, self._limit + 1)
        if end >= 0:
            message = bytes(buffer[:end]).rstrip(b"\r")
            del buffer[: end + 1]
            if message:
                found.append(message)
            return True
        if len(buffer) <= self._limit:
            return False
        found.append(bytes(buffer[: self._limit + 1]))
        self.cut += 1
        self._skip = -1
        return True


def _end_of_line(buffer: bytearray, within: int) -> int:
    """Place of the first LF or NUL, -1 if there is none within so many bytes."""
    places = [at for at in (buffer.find(end, 0, within) for end in _ENDS) if at >= 0]
    return min(places, default=-1)


def _count(buffer: bytearray) -> tuple[int, int] | None:
    """(digits, length) of an octet count at the front; None if there is none; (-1, 0) if more is needed."""
    digits = 0
    while digits < len(buffer) and digits <= _MAX_COUNT_DIGITS and 0x30 <= buffer[digits] <= 0x39:
        digits += 1
    if digits == 0 or buffer[0] == 0x30 or digits > _MAX_COUNT_DIGITS:
        return None
    if digits == len(buffer):
        return -1, 0
    # "<" must follow: a line such as "2026 ..." begins with digits and a space too.
    if buffer[digits] != 0x20:
        return None
    if len(buffer) == digits + 1:
        return -1, 0
    if buffer[digits + 1] != 0x3C:
        return None
    return digits, int(buffer[:digits])
