"""Rule files -> one RuleSet, and everything that is wrong with them.

Faulty content never raises: every fault of every file is found in one run, and the rules without
faults are in the result all the same, so that a checker can go on. The result does not depend on the
order of paths or of rules in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from pathlib import Path

from correlator.errors import Fault, FaultyFile, UsageError
from correlator.marked import Mark, MarkedDict, load_documents
from correlator.rules.correlations import Reading, read_correlation, rule_head
from correlator.rules.detections import DetectionReader, all_of
from correlator.rules.documents import RuleFile, nearest, text_list
from correlator.rules.extensions import COMMON_KEYS, block_of, read_extension
from correlator.rules.heads import (
    CORRELATION_KEYS,
    DETECTION_KEYS,
    FILTER_KEYS,
    Head,
    read_head,
    same_id,
)
from correlator.rules.logsource import contains, unknown_parts
from correlator.rules.overlay import OVERLAY_NAME, Overlay, RuleChange, read_overlay
from correlator.rules.syntax import CorrelationRule, DetectionRule, LogSource, RuleException, RuleSet, Threshold

_LOGSOURCE_KEYS = ("product", "category", "service", "definition")


@dataclass(frozen=True, slots=True)
class LoadedRules:
    """What was read. faults: errors and warnings, sorted; a rule with an error is not in `rules`.

    notes: remarks on portability (severity "note"), for `rules check`.
    changed: rule key -> reason, for each rule that the overlay changed or switched off.
    """

    rules: RuleSet
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults for which a file is refused."""
        return tuple(fault for fault in self.faults if fault.severity == "error")


@dataclass(slots=True)
class _Draft:
    file: RuleFile
    document: MarkedDict
    head: Head
    kind: str  # "detection", "correlation" or "filter"


def load_rules(
    paths: Sequence[Path],
    *,
    overlay: Path | None = None,
    shown: Callable[[Path], str] = str,
    regex_backtracking: bool = False,
) -> LoadedRules:
    """Reads rule files and folders (*.yml and *.yaml, at any depth, sorted; no hidden ones).

    overlay: the site's changes. shown: how a path is written in faults and positions.
    regex_backtracking: patterns that RE2 refuses run with backtracking on the first 64 characters.
    Raises UsageError for a path that does not exist.
    """
    texts: list[tuple[str, bytes]] = []
    for path in rule_files(paths):
        texts.append((shown(path), _bytes(path)))
    changes = (shown(overlay), _bytes(overlay)) if overlay is not None else None
    return _load(texts, changes, regex_backtracking)


def rule_texts(root: Path, paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """(name, bytes) of every rule file under the paths, as `load_rules` reads them.

    Names are relative to `root` where the file lies under it, so that they are the same on every
    machine. Raises UsageError for a path that does not exist.
    """
    return [(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name, _bytes(path))
            for path in rule_files(paths)]  # fmt: skip


def rules_of(
    texts: Iterable[tuple[str, bytes]], overlay: tuple[str, bytes] | None = None, *, regex_backtracking: bool = False
) -> LoadedRules:
    """As `load_rules`, of (name, bytes) of files and of an overlay."""
    return _load(texts, overlay, regex_backtracking)


def rules_text(
    text: str, file: str = "rules.yml", *, overlay: str | None = None, regex_backtracking: bool = False
) -> LoadedRules:
    """As `load_rules`, of one file's text (and an overlay's)."""
    changes = (OVERLAY_NAME, overlay.encode()) if overlay is not None else None
    return _load([(file, text.encode("utf-8", "surrogatepass"))], changes, regex_backtracking)


def rule_files(paths: Sequence[Path]) -> list[Path]:
    """The rule files under some paths, as `load_rules` reads them. Raises UsageError for a path that is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = [*path.rglob("*.yml"), *path.rglob("*.yaml")]
            for one in sorted(inside, key=str):
                hidden = any(part.startswith(".") for part in one.relative_to(path).parts)
                if one.is_file() and one.name != OVERLAY_NAME and not hidden:
                    found[one] = None
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"{path}: no such file or folder")
    return list(found)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _load(texts: Iterable[tuple[str, bytes]], overlay: tuple[str, bytes] | None, backtracking: bool) -> LoadedRules:
    loader = _Loader(backtracking)
    if overlay is not None:
        loader.read_overlay(*overlay)
    for name, data in texts:
        loader.read_file(name, data)
    return loader.finish()


class _Loader:
    def __init__(self, backtracking: bool) -> None:
        self.backtracking = backtracking
        self.files: list[RuleFile] = []
        self.faults: list[Fault] = []
        self.drafts: list[_Draft] = []
        self.overlay = Overlay()
        self.overlay_file: RuleFile | None = None
        self.refs: dict[str, list[str]] = {}  # id or name -> keys
        self.names: dict[str, tuple[str, ...]] = {}  # key -> name, id
        self.refused: set[str] = set()  # keys of rules with errors: still known as names

    # -- reading

    def _documents(self, name: str, data: bytes) -> tuple[RuleFile | None, list[object]]:
        try:
            text = data.decode("utf-8-sig")
            documents = load_documents(text, name)
        except UnicodeDecodeError as error:
            self.faults.append(Fault(name, 0, 0, f"is not UTF-8 text (byte {error.start})"))
            return None, []
        except FaultyFile as faulty:
            self.faults.extend(faulty.faults)
            return None, []
        file = RuleFile(name, text)
        self.files.append(file)
        return file, documents

    def read_overlay(self, name: str, data: bytes) -> None:
        file, documents = self._documents(name, data)
        if file is None:
            return
        if len(documents) > 1:
            file.error((1, 1), "an overlay is one document", "take the --- out")
        self.overlay_file = file
        self.overlay = read_overlay(file, documents[0] if documents else None)

    def read_file(self, name: str, data: bytes) -> None:
        file, documents = self._documents(name, data)
        if file is None:
            return
        for document in documents:
            if document is not None:
                self._draft(file, document)

    def _draft(self, file: RuleFile, document: object) -> None:
        if not isinstance(document, MarkedDict):
            file.error((1, 1), "a rule must be a mapping", "with title, logsource and detection")
            return
        if "action" in document:
            file.error(document.keys_at["action"], f"`action: {document['action']}` is no longer part of Sigma",
                       "write the shared parts into each rule")  # fmt: skip
            return
        kinds = [kind for kind in ("detection", "correlation", "filter") if kind in document]
        if len(kinds) != 1:
            if "site" in document and not kinds:
                return  # a site file that lies beside the rules, for their tests
            if kinds:
                at = document.keys_at[kinds[1]]
                file.error(at, f"a document has {kinds[0]} or {kinds[1]}, not both", "separate them with ---")
            else:
                keys = ("detection", "correlation", "filter")
                hints = [hint for key in document if (hint := nearest(key, keys)).startswith("did you mean")]
                file.error(document.mark, "the document is no rule: it has no detection, correlation or filter",
                           hints[0] if hints else "")  # fmt: skip
            return
        known = {"detection": DETECTION_KEYS, "correlation": CORRELATION_KEYS, "filter": FILTER_KEYS}
        head = read_head(file, document, known[kinds[0]])
        self.drafts.append(_Draft(file, document, head, kinds[0]))

    # -- references

    def _index(self) -> None:
        """Makes ids and names known; the same key twice is an error at the second one."""
        taken: dict[str, _Draft] = {}
        self.drafts.sort(key=_draft_order)
        kept = []
        for draft in self.drafts:
            head = draft.head
            if draft.kind == "filter":
                kept.append(draft)
                continue
            if not head.key:
                continue  # without id, name and title; the title's fault is told
            first = taken.get(head.key)
            if first is not None:
                what = "id" if head.id else "name" if head.name else "title, and neither id nor name,"
                at = draft.document.values_at["id" if head.id else "name" if head.name else "title"]
                draft.file.error(at, f"another rule has the same {what} {head.key!r}",
                                 f"it is at {first.file.position(first.head.mark)}")  # fmt: skip
                continue
            taken[head.key] = draft
            kept.append(draft)
            for ref in dict.fromkeys((head.id, head.name)):
                if ref:
                    self.refs.setdefault(ref, []).append(head.key)
            self.names[head.key] = tuple(text for text in (head.name, head.id, head.key) if text)
        self.drafts = kept
        self.taken = taken

    def resolve(self, text: str) -> tuple[str, str, str]:
        """(key, "", "") of a reference by id or name, else ("", message, hint)."""
        keys = self.refs.get(text) or self.refs.get(same_id(text)) or []
        if len(keys) == 1:
            return keys[0], "", ""
        if not keys:
            return "", f"there is no rule {text!r}", nearest(text, self.refs)
        places = ", ".join(str(self.taken[key].file.position(self.taken[key].head.mark)) for key in sorted(keys))
        return "", f"{text!r} names more than one rule", f"use the id; they are at {places}"

    # -- building

    def finish(self) -> LoadedRules:
        self._index()
        detections: dict[str, DetectionRule] = {}
        correlations: dict[str, CorrelationRule] = {}
        filters = []
        for draft in self.drafts:
            if draft.kind == "detection":
                detection = self._detection(draft)
                if detection is not None:
                    detections[draft.head.key] = detection
            elif draft.kind == "correlation":
                reading = Reading(draft.file, draft.document, draft.head, self.resolve, self._called)
                correlation = read_correlation(reading)
                if correlation is not None:
                    correlations[draft.head.key] = correlation
            else:
                filters.append(draft)
        for draft in filters:
            self._filter(draft, detections)
        changed = self._overlaid(detections, correlations)
        exceptions = self._excepted()
        self._drop_faulty(detections, correlations)
        ordered = self._ordered(correlations)
        used = _quiet(ordered, self._loud(detections))
        rules = RuleSet({key: detections[key] for key in sorted(detections)}, ordered, used, exceptions)
        faults = sorted([*self.faults, *(fault for file in self.files for fault in file.faults)])
        notes = sorted(note for file in self.files for note in file.notes)
        return LoadedRules(rules, tuple(dict.fromkeys(faults)), tuple(dict.fromkeys(notes)), changed)

    def _called(self, key: str) -> tuple[str, ...]:
        return self.names[key]

    def _detection(self, draft: _Draft) -> DetectionRule | None:
        file, document = draft.file, draft.document
        before = _errors(file)
        logsource = self._logsource(file, document, needed=True)
        reader = DetectionReader(file, self.overlay.lists, backtracking=self.backtracking)
        condition = reader.read(document["detection"], document.values_at["detection"])
        block = block_of(file, document, COMMON_KEYS)
        extension = read_extension(file, block, None)
        if "where" in extension.marks:
            file.note(extension.marks["where"], "conditions on the site and its state are ours",
                      "under x-correlator, which other readers ignore")  # fmt: skip
        if condition is None or _errors(file) > before:
            return None
        return DetectionRule(rule_head(file, draft.head, extension), logsource, condition)

    def _logsource(self, file: RuleFile, document: MarkedDict, *, needed: bool) -> LogSource:
        part = document.get("logsource")
        if part is None:
            if needed:
                file.error(document.mark, "the rule has no logsource", "such as logsource: {product: correlator}")
            return LogSource()
        at = document.values_at["logsource"]
        if not isinstance(part, MarkedDict):
            file.error(at, "logsource must be a mapping", "of product, category and service")
            return LogSource()
        given = {}
        for key in _LOGSOURCE_KEYS[:3]:
            value = part.get(key)
            if value is None:
                continue
            if not isinstance(value, str):
                file.error(part.values_at[key], f"{key} must be a text")
                continue
            given[key] = value
        for key in part:
            hint = nearest(key, _LOGSOURCE_KEYS)
            if key not in _LOGSOURCE_KEYS and hint.startswith("did you mean"):
                file.warning(part.keys_at[key], f"logsource has no key {key!r}; it is ignored", hint)
        if not given:
            file.error(at, "logsource needs product, category or service")
        logsource = LogSource(**given)
        for key, message, hint in unknown_parts(logsource):
            file.warning(part.values_at[key], message, hint)
        return logsource

    def _filter(self, draft: _Draft, detections: dict[str, DetectionRule]) -> None:
        """Narrows the detections that a Sigma filter means (2.1.0, "Filters")."""
        file, document = draft.file, draft.document
        logsource = self._logsource(file, document, needed=True)
        section, at = document["filter"], document.values_at["filter"]
        if not isinstance(section, MarkedDict):
            file.error(at, "filter must be a mapping", "with rules, a selection and a condition")
            return
        reader = DetectionReader(file, self.overlay.lists, backtracking=self.backtracking)
        condition = reader.read(section, at, keys=("condition", "rules"))
        wanted: set[str] | None = set()
        if section.get("rules") is None:
            file.error(section.mark, "the filter does not say which rules it narrows", "rules: [...] or rules: any")
            return
        refs = text_list(file, section, "rules", "rules")
        if not refs or (len(refs) == 1 and refs[0][0].lower() == "any"):
            wanted = None
        else:
            for text, mark in refs:
                key, message, hint = self.resolve(text)
                if not key:
                    file.error(mark, message, hint)
                elif self.taken[key].kind == "correlation":
                    file.error(mark, f"{text!r} is a correlation", "filters narrow detections")
                elif wanted is not None:
                    wanted.add(key)
        if condition is None:
            return
        touched = False
        for key, rule in detections.items():
            if (wanted is None or key in wanted) and contains(logsource, rule.logsource):
                detections[key] = replace(rule, condition=all_of([rule.condition, condition]))
                touched = True
            elif wanted is not None and key in wanted:
                file.warning(document.keys_at["logsource"], f"the filter's log source is not that of {key!r}; "
                             "it narrows nothing there")  # fmt: skip
        if not touched and wanted is None:
            file.warning(document.keys_at["filter"], "the filter narrows no rule")

    def _loud(self, detections: dict[str, DetectionRule]) -> set[str]:
        """The detections that say `generate: true` of themselves."""
        loud = set()
        for draft in self.drafts:
            value = draft.document.get("generate")
            if draft.kind != "detection" or value is None:
                continue
            if not isinstance(value, bool):
                draft.file.error(draft.document.values_at["generate"], "generate must be true or false")
            elif value and draft.head.key in detections:
                loud.add(draft.head.key)
        return loud

    # -- the site's changes

    def _overlaid(
        self, detections: dict[str, DetectionRule], correlations: dict[str, CorrelationRule]
    ) -> tuple[tuple[str, str], ...]:
        file = self.overlay_file
        if file is None:
            return ()
        changed: dict[str, str] = {}
        switched_off: dict[str, Mark] = {}
        for ref in sorted(self.overlay.rules):
            change = self.overlay.rules[ref]
            key, message, hint = self.resolve(ref)
            if not key:
                file.error(change.mark, message, hint)
                continue
            if key in changed:
                file.error(change.mark, f"the rule {ref!r} is changed twice, by name and by id")
            changed[key] = change.reason
            if not change.enabled:
                switched_off[key] = change.mark
            if key in detections:
                detections[key] = _changed_detection(file, detections[key], change)
            elif key in correlations:
                correlations[key] = _changed_correlation(file, correlations[key], change)
        for key, rule in correlations.items():
            if key in switched_off:
                continue
            for needed in rule.rules:
                if needed in switched_off:
                    file.error(switched_off[needed], f"the rule is needed by {self._called(key)[0]!r}",
                               "switch that one off as well, or change its level")  # fmt: skip
        for key in switched_off:
            detections.pop(key, None)
            correlations.pop(key, None)
        return tuple(sorted(changed.items()))

    def _excepted(self) -> tuple[RuleException, ...]:
        """The overlay's exceptions with the keys of their rules."""
        found = []
        for exception, mark in self.overlay.exceptions:
            if not exception.rule:
                found.append(exception)
                continue
            key, message, hint = self.resolve(exception.rule)
            if key:
                found.append(replace(exception, rule=key))
            elif self.overlay_file is not None:
                self.overlay_file.error(mark, message, hint)
        return tuple(found)

    # -- order

    def _drop_faulty(self, detections: dict[str, DetectionRule], correlations: dict[str, CorrelationRule]) -> None:
        """Takes out the correlations that need a rule with errors; that rule's fault is told already."""
        while True:
            broken = [
                key
                for key, rule in correlations.items()
                if any(ref not in detections and ref not in correlations for ref in rule.rules)
            ]
            if not broken:
                return
            for key in broken:
                del correlations[key]

    def _ordered(self, correlations: dict[str, CorrelationRule]) -> dict[str, CorrelationRule]:
        """Each after those it refers to, by key among equals. Cycles are errors and are left out."""
        waits = {key: {ref for ref in rule.rules if ref in correlations} for key, rule in correlations.items()}
        needed_by: dict[str, list[str]] = {}
        for key, refs in waits.items():
            for ref in refs:
                needed_by.setdefault(ref, []).append(key)
        free = [key for key, refs in waits.items() if not refs]
        heapify(free)
        ordered: dict[str, CorrelationRule] = {}
        while free:
            key = heappop(free)
            ordered[key] = correlations[key]
            for other in needed_by.get(key, ()):
                waits[other].discard(key)
                if not waits[other]:
                    heappush(free, other)
        told: set[str] = set()
        for key in sorted(set(correlations) - set(ordered)):
            cycle = _cycle(key, correlations, set(ordered))
            if cycle and not told & set(cycle):
                told.update(cycle)
                draft = self.taken[cycle[0]]
                path = " -> ".join(self._called(one)[0] for one in (*cycle, cycle[0]))
                draft.file.error(draft.document.values_at["correlation"], f"the rules refer to each other: {path}",
                                 "take one of the references out")  # fmt: skip
        return ordered


def _draft_order(draft: _Draft) -> tuple[str, str, Mark]:
    return draft.head.key, draft.file.name, draft.head.mark


def _errors(file: RuleFile) -> int:
    return sum(fault.severity == "error" for fault in file.faults)


def _cycle(start: str, correlations: dict[str, CorrelationRule], fine: set[str]) -> list[str]:
    """A cycle that can be reached from a rule, beginning with its smallest key."""
    path: list[str] = []
    key = start
    while key not in path:
        path.append(key)
        onward = sorted(ref for ref in correlations[key].rules if ref in correlations and ref not in fine)
        if not onward:
            return []
        key = onward[0]
    cycle = path[path.index(key) :]
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


def _quiet(correlations: dict[str, CorrelationRule], loud: set[str]) -> frozenset[str]:
    """The rules that some correlation uses and that neither they nor it want printed.

    Sigma's `generate` is said by a correlation about the rules it refers to; said by a rule that is
    itself referred to, it is taken as meant for that rule too: a match too many is seen, one too few
    is not.
    """
    used = {ref for rule in correlations.values() for ref in rule.rules}
    printed = {ref for rule in correlations.values() if rule.generate for ref in rule.rules}
    printed |= loud | {key for key, rule in correlations.items() if rule.generate}
    return frozenset(used - printed)


def _changed_detection(file: RuleFile, rule: DetectionRule, change: RuleChange) -> DetectionRule:
    for key in ("timespan", "condition"):
        if key in change.marks:
            file.error(change.marks[key], f"the rule is a detection and has no {key} to change")
    if not change.level:
        return rule
    return replace(rule, head=replace(rule.head, level=change.level))


def _changed_correlation(file: RuleFile, rule: CorrelationRule, change: RuleChange) -> CorrelationRule:
    made = rule
    if change.level:
        made = replace(made, head=replace(made.head, level=change.level))
    if change.timespan_ms:
        made = replace(made, timespan_ms=change.timespan_ms)
    if change.condition is not None:
        if not isinstance(rule.condition, Threshold):
            file.error(change.marks["condition"], "the rule's condition is no count and cannot be changed here")
        else:
            made = replace(made, condition=change.condition)
    return made
