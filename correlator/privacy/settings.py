"""Settings of privacy: the part `privacy:` of correlator.yaml (docs/privacy.md)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class KeySettings(BaseModel):
    """A key that makes tokens. The first of the list makes new ones, the others are only matched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern="^[a-z0-9]{1,12}$", description="its name, which stands in every token it makes")
    file: Path = Field(description="64 hex digits, mode 600; `correlator privacy keys new` writes one")
    replaced: date | None = Field(default=None, description="the day on which the key before it in the list came")


class PrivacySettings(BaseModel):
    """Who may be told by name, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: bool = Field(default=False, description="people, badges and accounts become tokens in ingest")
    keys: tuple[KeySettings, ...] = Field(default=(), description="keys of the tokens, the newest first")
    old_keys_days: float = Field(
        default=90, gt=0, description="a replaced key is matched this long: as long as what it made is kept"
    )
    vault: Path = Field(default=Path("vault.sqlite3"), description="the file that leads from tokens back to identities")
    keep_days: float = Field(default=400, gt=0, description="who was not seen this long is taken out of the vault")
    clear: tuple[str, ...] = Field(
        default=(), description="accounts that name nobody and stay as they are, beside SYSTEM, root and their like"
    )

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if self.tokens and not self.keys:
            raise ValueError("tokens need a key: keys: [{id: k1, file: keys/k1}]")
        if self.keys and self.keys[0].replaced is not None:
            raise ValueError(f"the first key makes new tokens; {self.keys[0].id!r} is said to be replaced")
        names = [one.id for one in self.keys]
        for number, one in enumerate(self.keys[1:], 1):
            if one.replaced is None:
                raise ValueError(f"key {one.id!r} stands behind another: since when is it replaced?")
            if one.id in names[:number]:
                raise ValueError(f"key {one.id!r} is given twice")
        return self
