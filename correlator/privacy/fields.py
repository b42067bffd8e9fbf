"""Which fields of rules hold identities, and of which kind: our names, and those that dialects and maps declare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from correlator.events.identity import IDENTIFYING_KINDS
from correlator.rules.fields import entity_kind_of
from correlator.rules.logsource import OURS
from correlator.sources import DIALECTS

# product of a rule's log source -> dialects whose messages it may be about; every other product: all
_DIALECTS_OF: Final = {
    "windows": ("windows-security", "sysmon"),
    "linux": ("syslog",),
    **{name: (name,) for name in ("zeek", "suricata", "wazuh", "clamav", "frigate", "zigbee2mqtt", "onvif")},
}
# Words that are an identity in one dialect and something else in others: only where the rule names the dialect.
_AMBIGUOUS: Final = frozenset({"name", "from", "to", "cc", "cookie"})


class IdentityFields:
    """The table of one site. maps: (field, kind) of the maps in use."""

    __slots__ = ("_maps",)

    def __init__(self, maps: Iterable[tuple[str, str]] = ()) -> None:
        self._maps = dict(maps)

    def kind_of(self, field: str, product: str = "", service: str = "") -> str:
        """The kind of identity in a field of a rule with that log source, "" for a field that holds none."""
        _, kind = entity_kind_of(field.removeprefix("@"))
        if kind in IDENTIFYING_KINDS:
            return kind
        if field in self._maps:
            return self._maps[field]
        named = service if product == OURS and service in DIALECTS else ""
        of = (named,) if named else _DIALECTS_OF.get(product, ())
        for one in of or DIALECTS:
            kind = DIALECTS[one].identity_fields.get(field, "")
            if kind and (of or field not in _AMBIGUOUS):
                return kind
        return ""
