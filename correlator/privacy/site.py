"""A site file with tokens: people, badges and accounts by the keys that events have, so that they resolve.

An identity stands in it by its oldest token, and `tokens:` leads there from the newer ones: what the
engine remembers of somebody goes on over a change of keys, until the old key is matched no more. Names of
people and comments do not come along.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from correlator.errors import Fault, FaultyFile
from correlator.premises import read_site
from correlator.privacy import rewriting as yaml_of
from correlator.privacy.tokens import TOKEN, KeyedIdentity
from correlator.sources.logparts import account_name

_REFERRING: Final = ("relations", "services", "protections", "windows", "sources", "assets", "floors")
_CREDENTIALS: Final = (("badges", "badge"), ("accounts", "account"))


class TokenisedSite:
    """text: the site file with tokens. references: what names an asset of the clear file -> its new name.
    contacts: names of whom to call stay, for those who call.

    known: identities of the file in lower case -> their kind, for texts that name one.
    """

    __slots__ = ("_identity", "_newer", "_texts", "known", "references", "text")

    def __init__(self, text: str, identity: KeyedIdentity, file: str, *, contacts: bool = False) -> None:
        self._identity = identity
        self.references: dict[str, str] = {}
        self.known: dict[str, str] = {}
        self._newer: dict[str, str] = {}
        self._texts: dict[str, str] = {}  # names of people as texts write them -> token
        nodes = yaml_of.documents(text)
        for document in nodes:
            self._people(yaml_of.part(document, "people"))
            for section in _REFERRING:
                self._refer(yaml_of.part(document, section))
            if not contacts:
                for contact in yaml_of.items(yaml_of.part(document, "contacts")):
                    yaml_of.drop(contact, "name")
            if self._newer:
                yaml_of.add(document, "tokens", yaml_of.mapping(self._newer))
        self.text = yaml_of.written(nodes)
        errors = [fault for fault in read_site(self.text, file)[1] if fault.severity == "error"]
        if errors:
            raise FaultyFile(
                Fault(file, 0, 0, f"with tokens: {fault.message}", "two identities differ in case only")
                for fault in errors
            )

    def _people(self, node: Any) -> None:
        people = yaml_of.items(node)
        bare = Counter(
            account_name(name)
            for person in people
            for name in {_id_of(one).lower() for one in yaml_of.items(yaml_of.part(person, "accounts"))}
        )
        for person in people:
            name = yaml_of.part(person, "id")
            clear = yaml_of.text_in(name)
            if clear is None:
                continue
            token = self._token("person", clear)
            self.references[clear] = token
            yaml_of.put(name, token)
            self._aliases(person)
            called = yaml_of.part(person, "name")
            text = yaml_of.text_in(called)
            if text is not None:
                if " " in text.strip():
                    self._texts[text.strip()] = token
                yaml_of.put(called, token)
            for key, kind in _CREDENTIALS:
                for one in yaml_of.items(yaml_of.part(person, key)):
                    self._credential(one, kind, bare)

    def _aliases(self, person: Any) -> None:
        for alias in yaml_of.items(yaml_of.part(person, "aliases")):
            clear = yaml_of.text_in(alias)
            if clear is not None:
                yaml_of.put(alias, self._token("person", clear))

    def _credential(self, node: Any, kind: str, bare: Counter[str]) -> None:
        clear = _id_of(node)
        if not clear:
            return
        name = account_name(clear) if kind == "account" else ""
        # An account as events name it; one of two with the same name leads nowhere there, and so here.
        token = self._token(kind, name if name and bare[name] == 1 else clear)
        self.references[f"{kind}:{clear}"] = f"{kind}:{token}"
        yaml_of.put(yaml_of.part(node, "id") if yaml_of.pairs(node) else node, token)

    def _token(self, kind: str, clear: str) -> str:
        """The oldest token of an identity; the newer ones will lead to it. A token stays itself: `site unknown`
        shows them, and who knows whose they are may paste them."""
        if TOKEN.fullmatch(clear):
            return clear
        *newer, oldest = self._identity.tokens(kind, clear)
        self._newer |= dict.fromkeys(newer, oldest)
        if not self._identity.is_clear(kind, clear):
            self.known.setdefault(clear.lower(), kind)
        return oldest

    def _refer(self, node: Any) -> None:
        words = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in sorted(self._texts, key=len)[::-1]))
        for one in yaml_of.scalars(node):
            text = yaml_of.text_in(one)
            if text in self.references:
                yaml_of.put(one, self.references[text])
            elif text and self._texts and words.search(text):
                yaml_of.put(one, words.sub(lambda found: self._texts[found[0]], text))


def _id_of(node: Any) -> str:
    """The id of a badge or account, written as a text or as a map with id."""
    found = yaml_of.part(node, "id") if yaml_of.pairs(node) else node
    return yaml_of.text_in(found) or ""
