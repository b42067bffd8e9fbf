"""How quick the console is for people: `python -m benchmarks.console [--threats N] [--pages N] [--json FILE]`.

A console as a process holds open threats of twenty sites, 200 new ones come a minute, and a viewer's pages are open in
one Chromium. Measured are

    answer   seconds from asking for a page of the list to its last byte, nothing else going on
    shown    seconds from a threat's line in the file of threats to its line on each open page
    effect   milliseconds from a key or click to the next frame that shows its effect, as the Event Timing API of
             W3C tells (what Interaction to Next Paint counts); it tells only of those above 16 ms
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Page, sync_playwright

from benchmarks.measure import machine, table
from tests.console.conftest import House, launched, logged_in, opened
from tests.console.crowd import SITES, crowd, made

NEW_EVERY_S = 0.3
PATHS = ("/", "/?q=store", "/?page=50&severity=low", "/handover", "/load")
WATCH = """() => { window.slow = [];
    new PerformanceObserver(list => list.getEntries().forEach(one => window.slow.push(one.duration)))
        .observe({type: 'event', durationThreshold: 16, buffered: false}); }"""
TOLD = "() => new Promise(done => setTimeout(() => done(window.slow), 300))"


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def answers(port: int) -> dict[str, float]:
    """Seconds of each path for an analyst who is the first to ask."""
    person = logged_in(port, "analyst")
    found = {}
    for path in PATHS:
        began = time.perf_counter()
        if person.get(path).status != 200:
            raise SystemExit(f"{path} was refused")
        found[path] = time.perf_counter() - began
    return found


def effects(page: Page, rounds: int) -> list[float]:
    """Milliseconds of every key and click that took longer than 16."""
    page.evaluate(WATCH)
    for _ in range(rounds):
        page.focus("#q")
        page.keyboard.type("x", delay=20)
        page.keyboard.press("Backspace")
        page.keyboard.press("Tab")
        page.check("[name=mine]")
        page.uncheck("[name=mine]")
        time.sleep(0.1)
    return list(page.evaluate(TOLD))


def shown(house: House, pages: list[Page], rounds: int, first: int) -> list[float]:
    """Seconds until each page shows a new threat, for each of `rounds` threats."""
    found = []
    for number in range(rounds):
        newest = made(6)
        name = f"{first + number:032x}"
        newest = msgspec.structs.replace(newest, id=name, decided_ms=newest.decided_ms + 10**9 + number)
        began = time.perf_counter()
        house.tell(newest)
        for page in pages:
            page.wait_for_selector(f"#t-{name}", timeout=60_000)
            found.append(time.perf_counter() - began)
    return found


def measured(folder: Path, threats: int, pages: int, rounds: int) -> dict[str, Any]:
    """All three, see the module."""
    house = crowd(folder, threats)
    stop = threading.Event()

    def tell() -> None:
        number = threats
        while not stop.wait(NEW_EVERY_S):
            house.tell(made(number))
            number += 1

    teller = threading.Thread(target=tell)
    try:
        port = house.processes[""][1]
        answered = answers(port)
        with sync_playwright() as playwright:
            browser = launched(playwright)
            cookie = logged_in(port, "viewer").cookie
            open_pages = [opened(browser, port, cookie) for _ in range(pages)]
            for page in open_pages:
                page.goto(f"http://localhost:{port}/")
            teller.start()
            seen = shown(house, open_pages, rounds, threats + 500_000)
            slow = effects(open_pages[0], 5 * rounds)
            browser.close()
    finally:
        stop.set()
        if teller.ident is not None:
            teller.join()
        house.kill()
    return {
        "threats": threats,
        "sites": SITES,
        "pages": pages,
        "answer_s": answered,
        "shown_s": {"p50": quantile(seen, 0.5), "p95": quantile(seen, 0.95), "max": max(seen)},
        "effect_ms": {"above_16": len(slow), "p95": quantile(slow or [16], 0.95), "max": max(slow, default=16)},
    }


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--threats", type=int, default=10_000, metavar="N", help="open threats (10000)")
    parser.add_argument("--pages", type=int, default=20, metavar="N", help="open pages (20)")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="new threats that are waited for (6)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), asked.threats, asked.pages, asked.rounds)
    print(f"{asked.threats:,} open threats of {SITES} sites, {60 / NEW_EVERY_S:.0f} new ones a minute, "
          f"{asked.pages} open pages")  # fmt: skip
    rows = [[f"answer {path}", f"{seconds * 1000:.0f} ms", "", ""] for path, seconds in found["answer_s"].items()]
    rows.append(["shown", *(f"{found['shown_s'][key]:.2f} s" for key in ("p50", "p95", "max"))])
    rows.append(["effect", "16 ms or less" if found["effect_ms"]["above_16"] == 0 else "",
                 *(f"{found['effect_ms'][key]:.0f} ms" for key in ("p95", "max"))])  # fmt: skip
    print(table(["", "p50", "p95", "max"], rows))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
