"""Keys, a scenario with tokens, and what stands for what in its vault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from correlator.privacy.private import Private
from correlator.privacy.settings import KeySettings, PrivacySettings
from correlator.privacy.tokens import TOKEN
from correlator.run.scenario import Scenario
from tests.ingest.carried import scenario

NOW_MS = 1_800_000_000_000  # 15 January 2027


def key(folder: Path, name: str) -> Path:
    """A key file; the secret follows from the name, so that a failure is the same every time."""
    file = folder / name
    if not file.exists():
        file.write_text(f"{name:0>2}"[-2:].encode().hex() * 16 + "\n")
        file.chmod(0o600)
    return file


def settings_with(folder: Path, *names: str) -> PrivacySettings:
    """Tokens by these keys, the newest first."""
    keys = [KeySettings(id=names[0], file=key(folder, names[0]))]
    keys += [KeySettings(id=one, file=key(folder, one), replaced="2027-01-01") for one in names[1:]]
    return PrivacySettings(tokens=True, keys=tuple(keys), vault=folder / "vault.sqlite3")


def tokenised(folder: Path, *names: str, story: str = "vaccine-theft") -> Scenario:
    """A scenario with tokens by these keys."""
    one = scenario(story)
    return one.tokenised(Private(settings_with(folder, *names), one.maps, NOW_MS))


def back(texts: Iterable[str], private: Private) -> Iterator[str]:
    """Texts with the values that their tokens stand for, as JSON writes them."""
    known = {one.token: one.value for one in private.vault.everybody()}
    for text in texts:
        yield TOKEN.sub(lambda hit: known[hit[0]].replace("\\", "\\\\"), text)


def ids_by_order(texts: Iterable[str]) -> list[str]:
    """Texts in which the n-th id to appear is `id<n>`: ids derive from groups, and in these are tokens.

    Ids have 32 hex digits; the short name of a badge in words is # and four.
    """
    known: dict[str, str] = {}
    name = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|#[0-9a-f]{4}\b")
    return [name.sub(lambda hit: known.setdefault(hit[0], f"id{len(known)}"), text) for text in texts]


def named_in(data: bytes, values: Iterable[str]) -> list[str]:
    """The values that stand in some bytes as whole words, in any case."""
    text = data.decode("utf-8", "replace").lower()
    there = [one for one in values if one.lower() in text]
    return [one for one in there if re.search(rf"(?<![\w-]){re.escape(one.lower())}(?![\w-])", text)]
