"""A followed file gives every line once, in order, whatever happens to the file."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.inputs import FileFollower, FileInput, PositionFile, Reading
from correlator.inputs import files as files_module

from .keeping import Kept


class Following:
    """A follower of one file, stepped by hand; `restart` is another process with the same positions."""

    def __init__(self, path, kept=None, **settings):
        self.path = path
        self.kept = kept if kept is not None else Kept()
        self.settings = FileInput(name="log", path=path, **settings)
        self.now_ms = 1_772_000_000_000
        self.follower = self._new()
        FOLLOWED.append(self)

    def _new(self):
        return FileFollower(self.settings, "site-a", self.kept, self.kept, clock=lambda: self.now_ms)

    async def read(self, steps=60):
        """Steps until nothing more comes."""
        quiet = 0
        for _ in range(steps):
            quiet = 0 if await self.follower.step() else quiet + 1
            if quiet == 3:
                return
        raise AssertionError("never comes to rest")

    def restart(self):
        self.follower.close()
        self.follower = self._new()

    @property
    def lines(self):
        return [payload.decode() for payload in self.kept.payloads]


FOLLOWED: list[Following] = []


def beside(log, number, suffix=""):
    """The path of a rotated part."""
    return log.path.with_name(f"{log.path.name}.{number}{suffix}")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(files_module, "MOVED_WAIT_S", 0.0)
    monkeypatch.setattr(files_module, "UNREADABLE_WAIT_S", 0.0)


def numbered(first, last):
    return "".join(f"2026-03-01T02:14:{n:04d} line {n}\n" for n in range(first, last + 1))


def said(first, last):
    return numbered(first, last).splitlines()


def run(scenario):
    """Runs a scenario on a loop of its own, then closes what it followed."""
    try:
        asyncio.run(scenario)
    finally:
        while FOLLOWED:
            FOLLOWED.pop().follower.close()


def test_lines_come_once_with_number_path_and_one_receive_time(tmp_path):
    log = Following(tmp_path / "eve.json")
    log.path.write_text(numbered(1, 3))

    async def scenario():
        await log.read()
        log.now_ms += 5
        with log.path.open("a") as file:
            file.write(numbered(4, 4))
        await log.read()

    run(scenario())
    assert log.lines == said(1, 4)
    first, last = log.kept.messages[0], log.kept.messages[-1]
    assert (first.input, first.site, first.offset) == ("log", "site-a", 0)
    assert (first.message.line, first.message.channel) == (1, str(log.path))
    assert [one.message.received_ms - first.message.received_ms for one in log.kept.messages] == [0, 0, 0, 5]
    assert last.message.origin == f"{log.path}:4"
    assert [one.offset for one in log.kept.messages] == [0, 29, 58, 87]


def test_a_line_counts_when_its_newline_has_come(tmp_path):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text("one\ntw")
        await log.read()
        assert log.lines == ["one"]
        with log.path.open("a") as file:
            file.write("o\n\n   \nthree\r\n")
        await log.read()

    run(scenario())
    assert log.lines == ["one", "two", "three"]
    assert [one.message.line for one in log.kept.messages] == [1, 2, 5]


def test_a_file_that_does_not_exist_yet_is_read_from_its_start_even_with_start_at_end(tmp_path):
    log = Following(tmp_path / "eve.json", start_at="end")

    async def scenario():
        await log.read()
        log.path.write_text("one\n")
        await log.read()

    run(scenario())
    assert log.lines == ["one"]


def test_start_at_end_skips_what_is_there_and_keeps_that_place_over_a_restart(tmp_path):
    log = Following(tmp_path / "eve.json", start_at="end")
    log.path.write_text("old\nolder\n")

    async def scenario():
        await log.read()
        log.restart()
        with log.path.open("a") as file:
            file.write("new\n")
        await log.read()

    run(scenario())
    assert log.lines == ["new"]
    assert log.kept.messages[0].message.line == 3


@pytest.mark.parametrize("live_again", [True, False], ids=["restart", "no restart"])
def test_after_a_restart_reading_goes_on_behind_the_last_kept_line(tmp_path, live_again):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text(numbered(1, 700))
        await log.read()
        with log.path.open("a") as file:
            file.write(numbered(701, 1300))
        if live_again:
            log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 1300)


@pytest.mark.parametrize("down", [False, True], ids=["while following", "while down"])
@pytest.mark.parametrize("rotations", [1, 3])
def test_rotation_by_rename_loses_nothing(tmp_path, down, rotations):
    log = Following(tmp_path / "eve.json")
    log.now_ms = 4_000_000_000_000

    async def scenario():
        log.path.write_text(numbered(1, 5))
        await log.read()
        at = 6
        with log.path.open("a") as file:
            file.write(numbered(at, at + 1))
        if down:
            log.follower.close()
        for one in range(rotations):
            for number in range(one, 0, -1):
                beside(log, number).rename(beside(log, number + 1))
            log.path.rename(beside(log, 1))
            at += 2
            log.path.write_text(numbered(at, at + 1))
            os.utime(log.path, ns=(0, 2_000_000_000_000_000_000 + at))
        if down:
            log.restart()
        await log.read()
        assert log.lines == said(1, at + 1)

    run(scenario())


@pytest.mark.parametrize("down", [False, True], ids=["while following", "while down"])
@pytest.mark.parametrize(("suffix", "opened"), [("", open), (".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_a_copied_and_truncated_file_is_read_on_from_its_copy(tmp_path, down, suffix, opened):
    log = Following(tmp_path / "alerts.json")

    async def scenario():
        log.path.write_text(numbered(1, 5))
        await log.read()
        if down:
            log.follower.close()
        with log.path.open("a") as file:
            file.write(numbered(6, 8))
        with opened(f"{log.path}.1{suffix}", "wb") as copy:
            copy.write(log.path.read_bytes())
        with log.path.open("r+") as file:
            file.truncate(0)
            file.write(numbered(9, 9))
        if down:
            log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 9)


@pytest.mark.parametrize(("suffix", "opened"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_parts_that_were_rotated_and_compressed_while_down_are_read_oldest_first(tmp_path, suffix, opened):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text(numbered(1, 5))
        await log.read()
        log.follower.close()
        with log.path.open("a") as file:
            file.write(numbered(6, 9))
        for number, (first, last) in {"20260301": (1, 9), "20260302": (10, 14)}.items():
            part = f"{log.path}-{number}{suffix}"
            with opened(part, "wb") as file:
                file.write(numbered(first, last).encode())
            os.utime(part, ns=(0, 1_772_000_001_000_000_000 + first))
        log.path.unlink()
        log.path.write_text(numbered(15, 15))
        log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 15)


def test_while_a_part_is_being_compressed_both_forms_stand_there_and_it_is_read_once(tmp_path):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text(numbered(1, 2))
        await log.read()
        log.follower.close()
        log.path.rename(beside(log, 1))
        with gzip.open(f"{log.path}.1.gz", "wb") as file:
            file.write(numbered(1, 2).encode())
        log.path.write_text(numbered(3, 3))
        log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 3)


def test_the_last_line_of_a_moved_file_counts_without_newline(tmp_path):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text("one\ntwo")
        await log.read()
        log.path.rename(beside(log, 1))
        log.path.write_text("three\n")
        await log.read()

    run(scenario())
    assert log.lines == ["one", "two", "three"]


def test_lines_written_to_the_moved_file_before_the_writer_reopens_are_read(tmp_path):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text("one\n")
        await log.read()
        with log.path.open("a") as still_open:
            log.path.rename(beside(log, 1))
            still_open.write("two\n")
        log.path.write_text("three\n")
        await log.read()

    run(scenario())
    assert log.lines == ["one", "two", "three"]


def test_lines_that_are_gone_are_told_as_a_gap_and_reading_goes_on(tmp_path, caplog):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text(numbered(1, 5))
        await log.read()
        log.follower.close()
        log.path.unlink()
        log.path.write_text(numbered(9, 10))
        log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 5) + said(9, 10)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["file_gap"]


def test_a_part_that_cannot_be_decompressed_through_is_a_gap(tmp_path, caplog):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text(numbered(1, 5))
        await log.read()
        log.follower.close()
        whole = gzip.compress((numbered(1, 9) + "".join(os.urandom(40).hex() + "\n" for _ in range(9000))).encode())
        (tmp_path / "eve.json.1.gz").write_bytes(whole[: len(whole) // 2])
        log.path.unlink()
        log.path.write_text(numbered(10_000, 10_000))
        log.restart()
        await log.read(400)

    run(scenario())
    assert log.lines[:9] == said(1, 9)
    assert log.lines[-1:] == said(10_000, 10_000)
    assert "file_gap" in [record.message for record in caplog.records]


def test_another_log_beside_it_is_not_taken_for_a_part(tmp_path):
    log = Following(tmp_path / "eve.json")

    async def scenario():
        log.path.write_text("one\n")
        await log.read()
        log.restart()
        log.path.rename(beside(log, 1))
        (tmp_path / "eve-alerts.json").write_text("other\n")
        log.path.write_text("two\n")
        await log.read()

    run(scenario())
    assert log.lines == ["one", "two"]


def test_rotated_parts_are_looked_for_where_the_settings_say(tmp_path):
    (tmp_path / "current").mkdir()
    (tmp_path / "2026-03-01").mkdir()
    log = Following(tmp_path / "current" / "conn.log", rotated=("../2026-*/conn.*.log.gz",))

    async def scenario():
        log.path.write_text(numbered(1, 2))
        await log.read()
        log.follower.close()
        with gzip.open(tmp_path / "2026-03-01" / "conn.01_00_00-02_00_00.log.gz", "wb") as part:
            part.write(numbered(1, 4).encode())
        log.path.unlink()
        log.path.write_text(numbered(5, 5))
        log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 5)


def test_a_line_over_the_limit_is_cut_one_byte_behind_it_and_the_next_is_whole(tmp_path):
    log = Following(tmp_path / "eve.json", max_line_bytes=1024)

    async def scenario():
        log.path.write_text("a" * 900_000 + "\n" + "b" * 1024 + "\nc\n")
        await log.read()

    run(scenario())
    assert [len(one) for one in log.kept.payloads] == [1025, 1024, 1]
    assert [one.message.line for one in log.kept.messages] == [1, 2, 3]


def test_lines_read_before_a_crash_keep_their_receive_time_when_they_are_read_again(tmp_path):
    log = Following(tmp_path / "eve.json")
    log.path.write_text(numbered(1, 4))

    async def scenario():
        await log.read()
        handed = log.kept.readings[-1]
        log.kept.positions[handed.input, handed.path] = log.kept.readings[0].after  # not known to be kept
        log.kept.open[handed.input, handed.path] = handed
        with log.path.open("a") as file:
            file.write(numbered(5, 5))
        log.now_ms += 60_000
        log.restart()
        await log.read()

    run(scenario())
    assert log.lines == said(1, 4) + said(1, 5)
    times = [one.message.received_ms - 1_772_000_000_000 for one in log.kept.messages]
    assert times == [0] * 8 + [60_000]


def test_positions_survive_in_their_file_and_so_does_what_was_begun(tmp_path):
    log = Following(tmp_path / "eve.json")
    log.path.write_text(numbered(1, 2))
    run(log.read())
    reading = log.kept.readings[-1]

    async def keep():
        positions = PositionFile(tmp_path / "positions.sqlite3")
        assert positions.position("log", reading.path) is None
        await positions.begin(reading)
        positions.close()
        positions = PositionFile(tmp_path / "positions.sqlite3")
        assert positions.pending("log", reading.path) == reading
        assert positions.position("log", reading.path) is None
        await positions.done(reading)
        later = Reading("log", reading.path, reading.end, reading.end + 9, 5, reading.after)
        await positions.begin(later)
        positions.close()
        positions = PositionFile(tmp_path / "positions.sqlite3")
        assert positions.position("log", reading.path) == reading.after
        assert positions.pending("log", reading.path) == later
        positions.close()

    run(keep())


_steps = st.lists(
    st.sampled_from(["write", "partial", "read", "restart", "rename", "copytruncate", "compress"]), max_size=30
)


@settings(max_examples=60)
@given(steps=_steps)
def test_any_course_of_writing_rotating_compressing_and_restarting_gives_every_line_once(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("follow")
    log = Following(folder / "app.log")
    log.path.write_text("")
    written: list[str] = []
    clock = [1_800_000_000_000_000_000]
    state = {"partial": False, "rotated": 0}

    def write(text):
        with log.path.open("a") as file:
            file.write(text)
        clock[0] += 1_000_000_000
        os.utime(log.path, ns=(0, clock[0]))

    def whole_line():
        if state["partial"]:
            write(" end\n")
            written[-1] += " end"
            state["partial"] = False

    def shift():
        for number in range(state["rotated"], 0, -1):
            for suffix in ("", ".gz"):
                if beside(log, number, suffix).exists():
                    beside(log, number, suffix).rename(beside(log, number + 1, suffix))
        state["rotated"] += 1

    async def scenario():
        for step in steps:
            if step == "write":
                whole_line()
                written.append(f"line {len(written)} of this log")
                write(written[-1] + "\n")
            elif step == "partial" and not state["partial"]:
                written.append(f"line {len(written)} begun")
                write(written[-1])
                state["partial"] = True
            elif step == "read":
                log.now_ms = clock[0] // 1_000_000
                await log.read(200)
            elif step == "restart":
                log.restart()
            elif step in ("rename", "copytruncate") and log.path.stat().st_size:
                whole_line()
                log.now_ms = clock[0] // 1_000_000
                await log.read(200)  # the rotated content is known by its beginning, so some of it was read
                written.append(f"line {len(written)} before rotation")
                write(written[-1] + "\n")
                shift()
                if step == "rename":
                    log.path.rename(beside(log, 1))
                    log.path.write_text("")
                else:
                    shutil.copy2(log.path, f"{log.path}.1")
                    os.truncate(log.path, 0)
                clock[0] += 1_000_000_000
                os.utime(log.path, ns=(0, clock[0]))
            elif step == "compress" and beside(log, 1).exists():
                changed = beside(log, 1).stat().st_mtime_ns
                beside(log, 1, ".gz").write_bytes(gzip.compress(beside(log, 1).read_bytes()))
                os.utime(beside(log, 1, ".gz"), ns=(0, changed))
                beside(log, 1).unlink()
        whole_line()
        await log.read(400)

    run(scenario())
    assert log.lines == written
    offsets = [one.offset for one in log.kept.messages]
    assert offsets == sorted(set(offsets))
