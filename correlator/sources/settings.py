"""Checks that the files with dialect settings and maps have in common: words, types, positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from correlator.errors import Fault


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint that names the word meant, or lists what is allowed when nothing is near."""
    known = sorted(words)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    shown = ", ".join(known[:16])
    return f"one of: {shown}" + (", ..." if len(known) > 16 else "")


def key_fault(owner: Any, key: str, file: str, message: str, hint: str = "") -> Fault:
    """A fault at a key of a mapping; without position where the mapping was not read from a file."""
    line, column = getattr(owner, "keys_at", {}).get(key, (0, 0))
    return Fault(file, line, column, message, hint)


def value_fault(owner: Any, key: str, file: str, message: str, hint: str = "") -> Fault:
    """A fault at the value of a key."""
    line, column = getattr(owner, "values_at", {}).get(key, (0, 0))
    return Fault(file, line, column, message, hint)


def unknown_words(owner: dict[str, Any], allowed: Iterable[str], file: str, what: str) -> list[Fault]:
    """A fault for each key of a mapping that is no word of it."""
    known = tuple(allowed)
    return [
        key_fault(owner, key, file, f"{what} has no word {key!r}", nearest(key, known))
        for key in owner
        if key not in known
    ]


def check_tables(
    settings: Any,
    file: str,
    what: str,
    tables: Mapping[str, tuple[str, ...]],
    texts: tuple[str, ...] = (),
    maps: tuple[str, ...] = (),
) -> list[Fault]:
    """Faults of settings that consist of tables `name: {thing: {word: text}}` and plain texts.

    tables: table -> words allowed for each thing in it; texts: settings that are a text; maps: words
    whose value is a mapping of texts instead.
    """
    if settings is None:
        return []
    if not isinstance(settings, dict):
        return [Fault(file, 0, 0, f"settings of {what} must be a mapping")]
    faults = unknown_words(settings, (*tables, *texts), file, f"settings of {what}")
    for name in texts:
        if name in settings and not (isinstance(settings[name], str) and settings[name]):
            faults.append(value_fault(settings, name, file, f"{name} must be a text"))
    for name, words in tables.items():
        table = settings.get(name)
        if table is None:
            continue
        if not isinstance(table, dict):
            faults.append(value_fault(settings, name, file, f"{name} must be a mapping"))
            continue
        for thing, about in table.items():
            if not isinstance(about, dict):
                hint = f"write {{{words[0]}: <id>}}"
                faults.append(value_fault(table, thing, file, f"{name}.{thing} must be a mapping", hint))
                continue
            faults += unknown_words(about, words, file, f"{name}.{thing}")
            for word, value in about.items():
                if word in words:
                    faults += _check_word(about, word, value, file, f"{name}.{thing}.{word}", word in maps)
    return faults


def _check_word(about: dict[str, Any], word: str, value: Any, file: str, where: str, is_map: bool) -> list[Fault]:
    if not is_map:
        if isinstance(value, str) and value:
            return []
        return [value_fault(about, word, file, f"{where} must be a text", "an id of the site model")]
    if not isinstance(value, dict):
        return [value_fault(about, word, file, f"{where} must be a mapping", "{<name in the message>: <id>}")]
    return [
        value_fault(value, name, file, f"{where}.{name} must be a text", "an id of the site model")
        for name, id in value.items()
        if not (isinstance(id, str) and id)
    ]
