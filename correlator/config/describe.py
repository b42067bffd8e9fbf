"""The settings as tables for docs/configuration.md, made from their models; a test keeps the page equal."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from correlator.config.settings import Settings


def tables() -> str:
    """A heading and a table for each section, sections within sections under their path."""
    parts: list[str] = []
    for name, field in Settings.model_fields.items():
        parts += _section(name, field, {})
    return "\n".join(parts)


def _section(path: str, field: FieldInfo, seen: dict[type[BaseModel], str]) -> list[str]:
    lines: list[str] = []
    for model in _models(field.annotation):
        if model in seen:
            lines.append(f"### {path}\n\nAs `{seen[model]}`.\n")
            continue
        seen[model] = path
        kind = next((str(one.default) for name, one in model.model_fields.items() if name == "kind"), "")
        told = _said(model)
        lines.append(
            f"### {path}{f' (kind: {kind})' if kind else ''}\n\n{told}\n\n| setting | default | |\n|---|---|---|"
        )
        inner: list[tuple[str, FieldInfo]] = []
        for name, one in model.model_fields.items():
            if name == "kind":
                continue  # it stands in the heading
            inside = _models(one.annotation)
            if inside:
                inner.append((name, one))
            description = (one.description or (_said(inside[0]) if inside else "")).replace("|", "\\|")
            lines.append(f"| `{name}` | {_default(one)} | {description} |")
        lines.append("")
        for name, one in inner:
            lines += _section(f"{path}.{name}", one, seen)
    return lines


def _said(model: type[BaseModel]) -> str:
    """The first paragraph of a model's text, in one line."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation, in order: Model, Model | None, tuple[Model, ...], A | B."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for one in getattr(annotation, "__args__", ()):
        found += [model for model in _models(one) if model not in found]
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is PydanticUndefined or _models(field.annotation):
        return ""
    value = field.default
    if value is None or value in ((), ""):
        return ""
    if type(value).__name__ == "SecretStr":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{re.sub(r'`', '', str(value))}`"
