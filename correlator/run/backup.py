"""State as a file: what `correlator state export` writes and `import` reads, for both carriers.

gzip over msgpack: a header, then [partition, key, value] of every entry, then how many they were, so that a
file that was cut short is known. Entries are a carrier's own bytes (correlator.run.partition); `_checkpoint`
among them says to which record of the log they belong, so a restored state goes on from there.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from correlator.errors import UsageError
from correlator.run.partition import CHECKPOINT, OFFSET, SITE_MARK

FORMAT: Final = 1
Carrier = Literal["stream", "embedded"]

_pack: Final = msgspec.msgpack.Encoder().encode
_HEAD_BYTES: Final = 4  # length of each part


class Header(msgspec.Struct, frozen=True):
    """Whose state it is. partitions: how many, with entries or without."""

    what: str
    format: int
    carrier: str
    partitions: int


_read_header: Final = msgspec.msgpack.Decoder(Header).decode
_read_entry: Final = msgspec.msgpack.Decoder(tuple[int, str, bytes] | int).decode
_read_int: Final = msgspec.msgpack.Decoder(int).decode

State = Mapping[int, Mapping[str, bytes]]  # partition -> entries


def write_state(file: Path, carrier: Carrier, partitions: int, entries: Iterable[tuple[int, str, bytes]]) -> int:
    """Writes a state, whole or not at all; gives the number of entries. Raises UsageError."""
    beside = file.with_name(file.name + ".part")
    count = 0
    try:
        with gzip.open(beside, "wb", compresslevel=3) as out:
            _put(out, Header("correlator-state", FORMAT, carrier, partitions))
            for entry in entries:
                _put(out, entry)
                count += 1
            _put(out, count)
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
    return count


def read_state(file: Path, carrier: Carrier) -> tuple[int, dict[int, dict[str, bytes]]]:
    """(number of partitions, their entries). Raises UsageError for what is no whole state of this carrier."""
    try:
        with gzip.open(file, "rb") as given:
            header = _header(file, given.read(int.from_bytes(given.read(_HEAD_BYTES), "big")), carrier)
            found: dict[int, dict[str, bytes]] = {}
            count = 0
            while size := given.read(_HEAD_BYTES):
                entry = _read_entry(given.read(int.from_bytes(size, "big")))
                if isinstance(entry, int):
                    if entry == count:
                        return header.partitions, found
                    break
                partition, key, value = entry
                found.setdefault(partition, {})[key] = value
                count += 1
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UsageError(f"{file}: no state that can be read: {error}") from error
    raise UsageError(f"{file}: it was cut short; export it again")


def words(partition: int, entries: Mapping[str, bytes]) -> str:
    """What a partition's state holds, in a line."""
    sites = sorted({key.partition(SITE_MARK)[0] for key in entries if SITE_MARK in key})
    stands = [f"{name[1:]} {_read_int(entries[name])}" for name in (CHECKPOINT, OFFSET) if name in entries]
    size = sum(map(len, entries.values()))
    return f"partition {partition}: {len(entries)} entries, {size} bytes, {', '.join([*stands, *sites]) or 'empty'}"


def _header(file: Path, data: bytes, carrier: Carrier) -> Header:
    header = _read_header(data)
    if header.what != "correlator-state":
        raise UsageError(f"{file}: no state of this program")
    if header.format != FORMAT:
        raise UsageError(f"{file}: written in form {header.format}; this release reads {FORMAT}: upgrade it")
    if header.carrier != carrier:
        raise UsageError(f"{file}: the state of a log of the carrier {header.carrier}, whose offsets are other ones")
    return header


def _put(out: Any, part: Any) -> None:
    data = _pack(part)
    out.write(len(data).to_bytes(_HEAD_BYTES, "big") + data)
