"""Privacy as the processes use it: one identity, what it tokenises, and the vault it fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from correlator.clock import DAY_MS
from correlator.errors import Fault
from correlator.events.identity import IDENTIFYING_KINDS
from correlator.premises import Premises
from correlator.premises.load import load_site_text
from correlator.privacy.fields import IdentityFields
from correlator.privacy.rules import TokenisedRules, check
from correlator.privacy.settings import PrivacySettings
from correlator.privacy.site import TokenisedSite
from correlator.privacy.tokens import TOKEN, KeyedIdentity, read_keys
from correlator.privacy.vault import Vault


class Private:
    """Tokenising as correlator.yaml sets it. now_ms: chooses the keys that are matched.

    Raises UsageError for a key file that cannot be used. The vault is opened when it is first needed.
    """

    def __init__(self, settings: PrivacySettings, maps: Iterable[tuple[str, str]], now_ms: int) -> None:
        self.settings = settings
        self.fields = IdentityFields(maps)
        keys = read_keys(settings, datetime.fromtimestamp(now_ms / 1000, UTC).date())
        self.identity = KeyedIdentity(keys, settings.clear, self._note)
        self._learned: dict[str, tuple[str, str, str]] = {}
        self._vault: Vault | None = None
        self._daily_ms = now_ms

    @property
    def vault(self) -> Vault:
        """The vault, made if missing. Raises UsageError."""
        if self._vault is None:
            self._vault = Vault(self.settings.vault)
        return self._vault

    def _note(self, token: str, kind: str, value: str) -> None:
        self._learned[token] = (token, kind, value)

    def flush(self, now_ms: int) -> None:
        """Writes to the vault what tokens were made since the last call; before they leave the process.

        Once a day it also writes who is still in use, and takes out who was not seen for `keep_days`. Raises
        sqlite3.OperationalError, and keeps what it has for the next call.
        """
        daily = now_ms - self._daily_ms >= DAY_MS
        if daily:
            self.identity.note_again()
        if self._learned:
            self.vault.learn(list(self._learned.values()), now_ms)
            self._learned.clear()
        if daily:
            self.vault.let_go(now_ms - int(self.settings.keep_days * DAY_MS))
            self._daily_ms = now_ms

    def premises(self, data: bytes, file: str, *, contacts: bool = False) -> Premises:
        """The site model with tokens. contacts: with the names of whom to call. Raises FaultyFile."""
        text = data.decode("utf-8-sig", "replace")
        return load_site_text(TokenisedSite(text, self.identity, file, contacts=contacts).text.encode(), file)

    def refused(self, rules: Sequence[tuple[str, bytes]]) -> list[Fault]:
        """What rule files ask of identities and tokens cannot answer; names as given."""
        clear = [(name, data.decode("utf-8-sig", "replace")) for name, data in rules]
        return [fault for fault in check(clear, self.fields) if fault.severity == "error"]

    def texts(
        self, rules: Sequence[tuple[str, bytes]], overlay: bytes | None, site: bytes, file: str
    ) -> tuple[list[tuple[str, bytes]], bytes | None, bytes, dict[str, str]]:
        """Rule files, overlay and site file with tokens, and new names of assets by the old ones.

        They are free of faults before. file: the site file as shown. Raises FaultyFile where two identities of the
        site have one token.
        """
        tokenised = TokenisedSite(site.decode("utf-8-sig"), self.identity, file)
        made = TokenisedRules(self.identity, self.fields, tokenised.known, tokenised.references)
        texts = [(name, made.rules(data.decode("utf-8-sig")).encode()) for name, data in rules]
        changes = made.overlay(overlay.decode("utf-8-sig")).encode() if overlay is not None else None
        return texts, changes, tokenised.text.encode(), tokenised.references


_UNKNOWN: Final = tuple(f"unknown:{kind}:" for kind in IDENTIFYING_KINDS)


def with_tokens(entries: Iterable[tuple[str, bytes]], renamed: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """What was learned, with tokens for assets that are people; of people that the site does not know it is left out.

    entries: (key, value), a key ends with the asset it is about, or with "who " and whom findings name
    (`correlator.linking.state`, `correlator.linking.rates`). What was learned with tokens has them already.
    """
    made = []
    for key, value in entries:
        head, _, about = key.rpartition("/")
        who, blank, asset = about.rpartition(" ")
        unknown = asset.startswith(_UNKNOWN) or bool(who and asset not in renamed)
        if not unknown or TOKEN.fullmatch(asset.rpartition(":")[2]):
            made.append((f"{head}/{who}{blank}{renamed.get(asset, asset)}", value))
    return made
