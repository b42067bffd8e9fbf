"""Reads correlator.yaml, and checks all it names: every fault of a run with file, line and column."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from correlator.config.settings import ENVIRONMENT, Settings, SiteSettings
from correlator.errors import CorrelatorError, Fault, FaultyFile, UsageError
from correlator.ingest.sources import source_rows
from correlator.inputs.settings import raw_topic
from correlator.marked import MarkedDict, MarkedList, load_file
from correlator.premises import Premises, load_site
from correlator.privacy.fields import IdentityFields
from correlator.privacy.private import Private
from correlator.run.bodies import Bundle, bundle
from correlator.sources import DIALECTS, MapSpec
from correlator.sources.settings import nearest

DEFAULT_FILE: Final = "correlator.yaml"
MASK: Final = "**********"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked correlator.yaml: what it says with the environment, and its folder, which paths start from."""

    file: Path
    settings: Settings
    from_environment: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.file.parent


def load(file: Path) -> Loaded:
    """The settings of a file. Raises UsageError if it is missing, FaultyFile with every fault of it."""
    if not file.is_file():
        raise UsageError(f"there is no {file}; `correlator init` writes one to start from")
    documents = load_file(file)
    root = documents[0] if documents else None
    if root is None:
        root = MarkedDict((1, 1))
    if len(documents) > 1 or not isinstance(root, MarkedDict):
        raise FaultyFile([Fault(str(file), 1, 1, "correlator.yaml is one mapping", "kafka:, sites:, ingest:")])
    if "until" in root and "inputs" in root:
        what, hint = "a scenario is no correlator.yaml", f"correlator replay {file}"
        raise FaultyFile([Fault(str(file), *root.keys_at["until"], what, hint)])
    try:
        settings = Settings(**_plain(root))
    except ValidationError as error:
        raise FaultyFile([_fault(one, root, str(file)) for one in error.errors()]) from None
    except SettingsError as error:
        raise UsageError(f"an environment variable {ENVIRONMENT}... cannot be read: {error}") from error
    said = tuple(sorted(name for name in os.environ if name.startswith(ENVIRONMENT)))
    return Loaded(file, _bare_rejects(_beside(settings, file.parent)), said)


def private_of(loaded: Loaded) -> Private | None:
    """Tokenising as the file sets it, None where people stay as they are. Raises FaultyFile, UsageError."""
    if not loaded.settings.privacy.tokens:
        return None
    return Private(loaded.settings.privacy, _map_fields(loaded), time.time_ns() // 1_000_000)


def identity_fields(file: Path | None) -> IdentityFields | None:
    """The fields of rules that hold tokens as a correlator.yaml sets it, None where people stay as they are.

    file: None for the one in the working folder, if there is one and it says anything about privacy.
    """
    if file is None:
        file = Path(DEFAULT_FILE)
        root = load_file(file)[:1] if file.is_file() else []
        if not root or not isinstance(root[0], MarkedDict) or "privacy" not in root[0]:
            return None
    loaded = load(file)
    return IdentityFields(_map_fields(loaded)) if loaded.settings.privacy.tokens else None


def _map_fields(loaded: Loaded) -> list[tuple[str, str]]:
    specs = [row.context.settings for row in source_rows(loaded.settings.ingest.sources, str(loaded.file))]
    return [field for spec in specs if isinstance(spec, MapSpec) for field in spec.identity]


def check(loaded: Loaded, private: Private | None = None) -> dict[str, Bundle]:
    """Everything that the file names, read: site -> its bodies. Raises FaultyFile with all that is wrong.

    private: that of `private_of`, for who needs what it learns.
    """
    private = private or private_of(loaded)
    faults: list[Fault] = []
    bundles: dict[str, Bundle] = {}
    for number, site in enumerate(loaded.settings.sites):
        made = _attempt(lambda site=site: site_bundle(loaded, site, private), faults, str(loaded.file))  # type: ignore[misc]
        if made is None:
            continue
        if made.site_id in bundles:
            faults.append(Fault(str(loaded.file), 0, 0, f"sites[{number}]: site {made.site_id!r} is given twice"))
        bundles[made.site_id] = made
    _attempt(lambda: source_rows(loaded.settings.ingest.sources, str(loaded.file)), faults, str(loaded.file))
    faults += _unknown_sites(loaded, bundles)
    faults += _unread_inputs(loaded)
    if faults:
        raise FaultyFile(faults)
    return bundles


def site_bundle(loaded: Loaded, site: SiteSettings, private: Private | None = None) -> Bundle:
    """A site's bodies. Raises FaultyFile, UsageError."""
    rules: list[Path | str] = [one if one == "pack" else loaded.folder / one for one in site.rules]
    overlay = loaded.folder / site.overlay if site.overlay is not None else None
    return bundle(loaded.folder / site.site, rules, overlay, site.deciding(), site.table_files(loaded.folder), private)


def site_models(loaded: Loaded) -> list[Premises]:
    """The site models for people: with tokens where people are tokens, but with the names of whom to call."""
    private = private_of(loaded)
    files = [loaded.folder / one.site for one in loaded.settings.sites]
    if private is None:
        return [load_site(one) for one in files]
    return [private.premises(one.read_bytes(), str(one), contacts=True) for one in files]


def shown(loaded: Loaded) -> Any:
    """The settings as plain values, secrets masked."""
    return _masked(loaded.settings)


# ---- paths -------------------------------------------------------------------------------------

# Sections whose paths start from the file's folder once they are read; paths of sites are joined where they are used.
_BESIDE: Final = ("kafka", "bridge", "inputs", "outputs", "console", "notifier", "privacy")


def _beside(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={name: _joined(getattr(settings, name), folder) for name in _BESIDE})


def _bare_rejects(settings: Settings) -> Settings:
    """Where people are tokens, no reject holds the message that named them; else none of a sensitive source does,
    also not where a bridge rejects before anybody reads what it is."""
    if settings.privacy.tokens:
        return settings.model_copy(update={
            "bridge": settings.bridge.model_copy(update={"reject_bytes": False}),
            "ingest": settings.ingest.model_copy(update={"reject_bytes": False}),
        })  # fmt: skip
    quiet = {
        one.input
        for one in settings.ingest.sources
        if one.sensitive or (one.dialect in DIALECTS and DIALECTS[one.dialect].sensitive)
    }
    routes = tuple(
        one.model_copy(update={"sensitive": True}) if one.to in quiet else one for one in settings.bridge.routes
    )
    return settings.model_copy(update={"bridge": settings.bridge.model_copy(update={"routes": routes})})


def _joined(value: Any, folder: Path) -> Any:
    """The value with every relative path in it joined to a folder."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple):
        return tuple(_joined(one, folder) for one in value)
    if isinstance(value, BaseModel):
        changed = {name: _joined(getattr(value, name), folder) for name in type(value).model_fields}
        return value.model_copy(update={name: new for name, new in changed.items() if new is not getattr(value, name)})
    return value


def missing_files(loaded: Loaded) -> list[Fault]:
    """Files that outputs, console and notifier name and that are not there; on another machine they may be."""
    found: list[Fault] = []
    for section in ("outputs", "console", "notifier"):
        for name, path in _paths(getattr(loaded.settings, section), section):
            there = path.parent.is_dir() if name.endswith(".to.path") else path.is_file()
            if not there:
                found.append(Fault(str(loaded.file), 0, 0, f"{name}: there is no {path}"))
    return found


def _paths(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield name, value
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from _paths(one, f"{name}[{number}]")
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _paths(getattr(value, field), f"{name}.{field}")


# ---- positions ---------------------------------------------------------------------------------

# What pydantic says in Python's words, in those of YAML.
_MUST_BE: Final = {
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
}


def _fault(one: Mapping[str, Any], root: MarkedDict, file: str) -> Fault:
    """A fault of pydantic's with its place in the file, or the variable it came from."""
    path = tuple(one["loc"])
    at, here, model = root.mark, root, Settings
    words: type[BaseModel] | None = model
    there = True
    for step in path:
        if isinstance(here, MarkedDict) and step in here:
            extra = one["type"] == "extra_forbidden" and step == path[-1]
            at, here = (here.keys_at if extra else here.values_at)[str(step)], here[step]
            words = _model_of(words, str(step))
        elif isinstance(here, MarkedList) and isinstance(step, int) and step < len(here):
            at, here = here.items_at[step], here[step]
        else:
            there = False
            break
    name = ".".join(str(step) for step in path)
    said = str(one["msg"]).removeprefix("Value error, ").replace("Input should be", "must be", 1)
    message = _MUST_BE.get(one["type"], said)
    hint = ""
    variable = ENVIRONMENT + "__".join(str(step).upper() for step in path)
    if one["type"] == "extra_forbidden":
        owner = _model_at(path[:-1])
        message = f"there is no setting {path[-1]!r} here"
        hint = nearest(str(path[-1]), owner.model_fields) if owner is not None else ""
    elif one["type"] == "missing":
        message = f"{path[-1]!r} is missing"
        there = True
    if not there and variable in os.environ:
        return Fault(variable, 0, 0, message, hint)
    line, column = at
    return Fault(
        file, line, column, message if one["type"] in ("extra_forbidden", "missing") else f"{name}: {message}", hint
    )


def _model_at(path: tuple[Any, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    for step in path:
        if isinstance(step, int):
            continue
        model = _model_of(model, str(step))
    return model


def _model_of(model: type[BaseModel] | None, name: str) -> type[BaseModel] | None:
    """The model of a field, also inside tuple[...] and `| None`; None if it has none."""
    field = model.model_fields.get(name) if model is not None else None
    if field is None:
        return None
    todo = [field.annotation]
    while todo:
        one = todo.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
        todo += list(getattr(one, "__args__", ()))
    return None


def _attempt(work: Callable[[], Any], faults: list[Fault], file: str) -> Any:
    try:
        return work()
    except FaultyFile as faulty:
        faults += faulty.faults
    except CorrelatorError as error:
        faults.append(Fault(file, 0, 0, str(error)))
    except OSError as error:
        faults.append(Fault(str(error.filename), 0, 0, f"cannot be read: {error.strerror}"))
    return None


def _unknown_sites(loaded: Loaded, bundles: Mapping[str, Bundle]) -> list[Fault]:
    """Sites that sources name and that are not configured here (only when any is)."""
    if not bundles:
        return []
    return [
        Fault(
            str(loaded.file),
            0,
            0,
            f"ingest.sources[{number}]: there is no site {one.site!r}",
            nearest(one.site, bundles),
        )
        for number, one in enumerate(loaded.settings.ingest.sources)
        if one.site and one.site not in bundles
    ]


def _unread_inputs(loaded: Loaded) -> list[Fault]:
    """Inputs that are received and that no source reads (only when there are sources in this file)."""
    settings = loaded.settings
    read = {raw_topic(one.input) for one in settings.ingest.sources}
    if not read:
        return []
    received = [(f"bridge.routes[{number}]", one.to) for number, one in enumerate(settings.bridge.routes)]
    for kind in ("files", "syslog", "http"):
        received += [
            (f"inputs.{kind}[{number}]", one.name) for number, one in enumerate(getattr(settings.inputs, kind))
        ]
    return [
        Fault(
            str(loaded.file),
            0,
            0,
            f"{where}: input {name!r} has no row in ingest.sources, which says of what dialect it is",
            nearest(raw_topic(name), read),
        )
        for where, name in received
        if raw_topic(name) not in read
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, MarkedDict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, MarkedList):
        return [_plain(item) for item in value]
    return value


def _masked(model: BaseModel) -> Any:
    """pydantic masks SecretStr itself; an empty one says nothing and stays empty."""
    return model.model_dump(mode="json")
