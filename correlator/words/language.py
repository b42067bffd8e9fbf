"""The languages of texts for people."""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["en", "fr", "it"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "fr", "it")
