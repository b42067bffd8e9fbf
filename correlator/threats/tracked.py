"""A dictionary that remembers which of its keys were set or deleted, so that only those are written."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Tracked(dict[str, V], Generic[V]):
    """`changed`: keys set or deleted since it was last cleared. Values must not change in place."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[str] = set()

    def __setitem__(self, key: str, value: V) -> None:
        self.changed.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.changed.add(key)
        super().__delitem__(key)

    def pop(self, key: str, *default: Any) -> Any:
        """As dict.pop."""
        self.changed.add(key)
        return super().pop(key, *default)

    def take(self) -> list[tuple[str, V | None]]:
        """(key, value now) of what changed, None for what is gone; sorted; then all counts as told."""
        found = [(key, self.get(key)) for key in sorted(self.changed)]
        self.changed.clear()
        return found
