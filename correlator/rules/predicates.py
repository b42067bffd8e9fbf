"""A condition tree -> a predicate over one event: test, explain, anchors for an index.

`test` and `explain` walk the same nodes and ask each leaf the same question (`holds`), so they
cannot disagree. Hot: `test` runs for every event that an anchor lets through; no closures, and
alternatives over one field become one look-up in a set.

Text is compared in lower case on both sides (`str.lower`), except where the rule says `cased`.
"""

from __future__ import annotations

import re as backtracking_re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final, final

import re2

from correlator.clock import local
from correlator.events.event import Event
from correlator.rules.fields import MISSING, Accessor, accessor_of, number_of, text_of
from correlator.rules.logsource import logsource_condition
from correlator.rules.places import Places
from correlator.rules.syntax import All, Any_, FieldTest, LogSource, Not, Where, Wild
from correlator.rules.where import WhereTest, compile_where, where_text

Anchors = tuple[tuple[str, str], ...]

BACKTRACKING_CHARS: Final = 64  # `regex_backtracking: allow` looks at no more of a text than this
_MANY_ANCHORS = 200  # more alternatives than this make an index larger than it is worth


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an explanation: a part of a condition, the value it met, and how it came out.

    says: the part in words; field: "" for and/or/not and keywords; met: the value, MISSING if absent;
    depth: nesting, from 0.
    """

    says: str
    field: str
    met: Any
    holds: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an event before it is looked at: its kind and dialect.

    plain: it has no attribute "kind", so that the field of that name is its kind, too.
    """

    kind: str
    dialect: str
    plain: bool


class Node(ABC):
    """A part of a compiled condition."""

    __slots__ = ()

    @abstractmethod
    def test(self, event: Event) -> bool:
        """Whether the part is true of the event."""

    @abstractmethod
    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        """As `test`, and writes what it met to steps, the whole before its parts."""

    def settled(self, known: Known) -> Node | bool:
        """What is left to ask of events of which so much is known; True or False where that is nothing."""
        return self

    def anchors(self) -> Anchors | None:
        """(field, lower-cased text) alternatives without one of which the part cannot be true."""
        return None

    def anchor_choices(self) -> list[Anchors]:
        """Every set of anchors that would do, so that an index can take the one that sorts its rules best."""
        found = self.anchors()
        return [] if found is None else [found]

    def cost(self) -> int:
        """Rank for the order of evaluation within an `and`/`or`: cheap and selective first."""
        return 5


class Leaf(Node):
    """A question about one field. neq: true when the field is present and the question is answered no."""

    __slots__ = ("accessor", "neq", "says")

    def __init__(self, accessor: Accessor, says: str, neq: bool) -> None:
        self.accessor = accessor
        self.says = says
        self.neq = neq

    @abstractmethod
    def one(self, value: Any) -> bool:
        """Whether one value that is no list satisfies the question."""

    def holds(self, value: Any) -> bool:
        """Whether a field's value does: of a list, whether one element does."""
        if type(value) is list or type(value) is tuple:
            found = False
            for item in value:
                if self.one(item):
                    found = True
                    break
        else:
            found = self.one(value)
        if self.neq:
            return value is not MISSING and not found
        return found

    def test(self, event: Event) -> bool:
        return self.holds(self.accessor.get(event))

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        value = self.accessor.get(event)
        result = self.holds(value)
        steps.append(Step(self.says, self.accessor.field, value, result, depth))
        return result

    def settled(self, known: Known) -> Node | bool:
        field = self.accessor.field
        if field == "@kind" or (field == "kind" and known.plain):
            return self.holds(known.kind)
        return self.holds(known.dialect) if field == "@dialect" else self


@final
class Texts(Leaf):
    """The value's text is one of a set, starts or ends with one of some, or contains one of them."""

    __slots__ = ("cased", "contains", "ends", "equals", "starts")

    def __init__(
        self,
        accessor: Accessor,
        says: str,
        neq: bool,
        cased: bool,
        equals: Iterable[str],
        starts: Iterable[str],
        ends: Iterable[str],
        contains: Iterable[str],
    ) -> None:
        super().__init__(accessor, says, neq)
        self.cased = cased
        self.equals = frozenset(equals)
        self.starts = tuple(starts)
        self.ends = tuple(ends)
        self.contains = tuple(contains)

    def one(self, value: Any) -> bool:
        text = value if type(value) is str else text_of(value)
        if text is None:
            return False
        if not self.cased:
            text = text.lower()
        if text in self.equals:
            return True
        if self.starts and text.startswith(self.starts):
            return True
        if self.ends and text.endswith(self.ends):
            return True
        for needle in self.contains:  # noqa: SIM110  # a loop takes half of a generator's time
            if needle in text:
                return True
        return False

    def test(self, event: Event) -> bool:
        value = self.accessor.get(event)
        # The usual case, without two calls: a text in a set.
        if type(value) is str and not self.neq and not self.cased and value.lower() in self.equals:
            return True
        return self.holds(value)

    def anchors(self) -> Anchors | None:
        if self.neq or self.starts or self.ends or self.contains or len(self.equals) > _MANY_ANCHORS:
            return None
        found: dict[tuple[str, str], None] = {}
        for text in sorted(self.equals):
            for form in _written_forms(text.lower()):
                found[self.accessor.field, form] = None
        return tuple(found)

    def cost(self) -> int:
        if self.neq:
            return 2
        return 3 if self.contains else 1


def _written_forms(text: str) -> tuple[str, ...]:
    """How str() writes values whose text form this is: 1.0 has the text "1" but str() gives "1.0"."""
    if _WHOLE.fullmatch(text):
        return (text, f"{text}.0", "-0.0") if text == "0" else (text, f"{text}.0")
    if _EXPONENT.fullmatch(text):
        # An index that writes whole floats without an exponent finds them too.
        number = float(text)
        return (text, str(int(number))) if number.is_integer() else (text,)
    return (text,)


_WHOLE = backtracking_re.compile(r"-?[0-9]{1,16}")
_EXPONENT = backtracking_re.compile(r"-?[0-9](?:\.[0-9]+)?e\+[0-9]{1,3}")


def _only_itself(text: str) -> bool:
    """Whether str(value).lower() == text says that the value's text form is it, for every value."""
    return bool(text) and text[0] not in "[{(-" and text not in ("none", "missing") and not text[0].isdigit()


@final
class IsNull(Leaf):
    """The field is absent or null."""

    __slots__ = ()

    def one(self, value: Any) -> bool:
        return value is None or value is MISSING

    def cost(self) -> int:
        return 1


@final
class Exists(Leaf):
    """The field is present, or is not; null is present."""

    __slots__ = ("wanted",)

    def __init__(self, accessor: Accessor, says: str, wanted: bool) -> None:
        super().__init__(accessor, says, False)
        self.wanted = wanted

    def one(self, value: Any) -> bool:
        return (value is not MISSING) is self.wanted

    def holds(self, value: Any) -> bool:
        return self.one(value)

    def cost(self) -> int:
        return 1


@final
class Wildcards(Leaf):
    """The value's text fits a pattern with `*` only: pieces in order, the outer ones at the ends."""

    __slots__ = ("cased", "first", "last", "least", "middle")

    def __init__(self, accessor: Accessor, says: str, neq: bool, cased: bool, pieces: Sequence[str]) -> None:
        super().__init__(accessor, says, neq)
        self.cased = cased
        self.first = pieces[0]
        self.last = pieces[-1]
        self.middle = tuple(piece for piece in pieces[1:-1] if piece)
        self.least = sum(len(piece) for piece in pieces)

    def one(self, value: Any) -> bool:
        text = text_of(value)
        if text is None:
            return False
        if not self.cased:
            text = text.lower()
        if len(text) < self.least or not text.startswith(self.first) or not text.endswith(self.last):
            return False
        place, end = len(self.first), len(text) - len(self.last)
        for piece in self.middle:
            place = text.find(piece, place, end)
            if place < 0:
                return False
            place += len(piece)
        return True


@final
class Pattern(Leaf):
    """The value's text has a place that fits an RE2 pattern (or, by setting, a backtracking one)."""

    __slots__ = ("first", "lower", "pattern")

    def __init__(self, accessor: Accessor, says: str, neq: bool, pattern: Any, lower: bool, first: int) -> None:
        super().__init__(accessor, says, neq)
        self.pattern = pattern
        self.lower = lower
        self.first = first

    def one(self, value: Any) -> bool:
        text = text_of(value)
        if text is None:
            return False
        if self.lower:
            text = text.lower()
        return found_in(self.pattern, text[: self.first] if self.first else text)

    def cost(self) -> int:
        return 7


def found_in(pattern: Any, text: str) -> bool:
    """Whether a compiled pattern is found in a text; half surrogate pairs count as U+FFFD."""
    try:
        return pattern.search(text) is not None
    except UnicodeEncodeError:
        return pattern.search(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")) is not None


@final
class InNetwork(Leaf):
    """The value is an IP address of a network. An IPv4 address in its IPv6 form counts as itself."""

    __slots__ = ("base", "bits", "family")

    def __init__(self, accessor: Accessor, says: str, neq: bool, cidr: str) -> None:
        super().__init__(accessor, says, neq)
        address, _, length = cidr.partition("/")
        self.family = 6 if ":" in address else 4
        packed = socket.inet_pton(socket.AF_INET6 if self.family == 6 else socket.AF_INET, address)
        self.bits = (128 if self.family == 6 else 32) - int(length)
        self.base = int.from_bytes(packed, "big") >> self.bits

    def one(self, value: Any) -> bool:
        if type(value) is not str:
            return False
        family, number = _address(value)
        if family == 6 and self.family == 4 and number >> 32 == 0xFFFF:
            family, number = 4, number & 0xFFFFFFFF
        return family == self.family and number >> self.bits == self.base

    def cost(self) -> int:
        return 4


def _address(text: str) -> tuple[int, int]:
    """(4 or 6, number) of an address, (0, 0) of anything else; a zone index ("%eth0") is ignored."""
    try:
        if ":" in text:
            return 6, int.from_bytes(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]), "big")
        return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
    except (OSError, ValueError):
        return 0, 0


@final
class Compare(Leaf):
    """The value is a number, or a text that is one, below or above a bound."""

    __slots__ = ("bound", "how")

    def __init__(self, accessor: Accessor, says: str, neq: bool, how: str, bound: float) -> None:
        super().__init__(accessor, says, neq)
        self.how = how
        self.bound = bound

    def one(self, value: Any) -> bool:
        number = number_of(value)
        if number is None:
            return False
        if self.how == "lt":
            return number < self.bound
        if self.how == "lte":
            return number <= self.bound
        if self.how == "gt":
            return number > self.bound
        return number >= self.bound

    def cost(self) -> int:
        return 2


@final
class SameField(Node):
    """The value compares with another field's: equal, or starts, ends with or contains it, in any case."""

    __slots__ = ("accessor", "how", "neq", "other", "says")

    def __init__(self, accessor: Accessor, says: str, neq: bool, how: str, other: Accessor) -> None:
        self.accessor = accessor
        self.says = says
        self.neq = neq
        self.how = how
        self.other = other

    def test(self, event: Event) -> bool:
        return self.compared(self.accessor.get(event), self.other.get(event))

    def compared(self, value: Any, other: Any) -> bool:
        """Whether some element of the value fits some element of the other; absent and null never do."""
        found = False
        for mine in _texts(value):
            for theirs in _texts(other):
                if self.how == "equals":
                    fits = mine == theirs
                elif self.how == "startswith":
                    fits = mine.startswith(theirs)
                elif self.how == "endswith":
                    fits = mine.endswith(theirs)
                else:
                    fits = theirs in mine
                found = found or fits
        if self.neq:
            return value is not MISSING and not found
        return found

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        value, other = self.accessor.get(event), self.other.get(event)
        result = self.compared(value, other)
        said = f"{self.says} (there: {shown(other)})"
        steps.append(Step(said, self.accessor.field, value, result, depth))
        return result


def _texts(value: Any) -> list[str]:
    values = value if type(value) is list or type(value) is tuple else (value,)
    return [text.lower() for item in values if (text := text_of(item)) is not None]


@final
class TimePart(Node):
    """Minute, hour, day, ISO week, month or year of the event's time in the site's zone."""

    __slots__ = ("neq", "part", "says", "wanted", "zone")

    def __init__(self, says: str, neq: bool, part: str, wanted: int, zone: tzinfo) -> None:
        self.says = says
        self.neq = neq
        self.part = part
        self.wanted = wanted
        self.zone = zone

    def test(self, event: Event) -> bool:
        return (self.value(event.time_ms) == self.wanted) is not self.neq

    def value(self, time_ms: int) -> int:
        """The part's number of a time."""
        stamp = local(time_ms, self.zone)
        if self.part == "week":
            return stamp.isocalendar().week
        return int(getattr(stamp, self.part))

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        result = self.test(event)
        steps.append(Step(self.says, "time_ms", self.value(event.time_ms), result, depth))
        return result


@final
class Keywords(Node):
    """One of some texts occurs in the message text, or else in the text of one of its attributes."""

    __slots__ = ("cased", "first", "needles", "neq", "pattern", "says")

    def __init__(self, says: str, neq: bool, cased: bool, needles: Iterable[str], pattern: Any, first: int = 0) -> None:
        self.says = says
        self.neq = neq
        self.cased = cased
        self.needles = tuple(needles)
        self.pattern = pattern
        self.first = first

    def test(self, event: Event) -> bool:
        found = self.inside(event.text) if event.text else self.somewhere(event.attributes)
        return found is not self.neq

    def inside(self, text: str) -> bool:
        """Whether a text holds one of the keywords."""
        if not self.cased:
            text = text.lower()
        for needle in self.needles:
            if needle in text:
                return True
        return self.pattern is not None and found_in(self.pattern, text[: self.first] if self.first else text)

    def somewhere(self, value: Any) -> bool:
        """Whether a value or anything inside it does."""
        if type(value) is dict:
            return any(self.somewhere(item) for item in value.values())
        if type(value) is list:
            return any(self.somewhere(item) for item in value)
        text = text_of(value)
        return text is not None and self.inside(text)

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        result = self.test(event)
        steps.append(Step(self.says, "", event.text or MISSING, result, depth))
        return result

    def cost(self) -> int:
        return 8


@final
class Never(Node):
    """Never true."""

    __slots__ = ()

    def test(self, event: Event) -> bool:
        return False

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        steps.append(Step("never", "", MISSING, False, depth))
        return False

    def settled(self, known: Known) -> Node | bool:
        return False

    def anchors(self) -> Anchors | None:
        return ()

    def cost(self) -> int:
        return 0


@final
class Both(Node):
    """True when every part is."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Node]) -> None:
        self.parts = tuple(sorted(parts, key=_cost))

    def test(self, event: Event) -> bool:
        for part in self.parts:  # noqa: SIM110  # as above
            if not part.test(event):
                return False
        return True

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        place = len(steps)
        result = True
        for part in self.parts:
            result = part.explain(event, depth + 1, steps) and result
        steps.insert(place, Step("all of", "", MISSING, result, depth))
        return result

    def settled(self, known: Known) -> Node | bool:
        left = _left(self.parts, known, decides=False)
        return left if isinstance(left, bool) else self if left == self.parts else _joined(left, every=True)

    def anchors(self) -> Anchors | None:
        best: Anchors | None = None
        for part in self.parts:
            found = part.anchors()
            if found is not None and (best is None or anchor_rank(found) < anchor_rank(best)):
                best = found
        return best

    def anchor_choices(self) -> list[Anchors]:
        return [choice for part in self.parts for choice in part.anchor_choices()]

    def cost(self) -> int:
        return max(part.cost() for part in self.parts)


@final
class Either(Node):
    """True when at least one part is."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[Node]) -> None:
        self.parts = tuple(sorted(parts, key=_cost))

    def test(self, event: Event) -> bool:
        for part in self.parts:  # noqa: SIM110  # as above
            if part.test(event):
                return True
        return False

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        place = len(steps)
        result = False
        for part in self.parts:
            result = part.explain(event, depth + 1, steps) or result
        steps.insert(place, Step("at least one of", "", MISSING, result, depth))
        return result

    def settled(self, known: Known) -> Node | bool:
        left = _left(self.parts, known, decides=True)
        return left if isinstance(left, bool) else self if left == self.parts else _joined(left, every=False)

    def anchors(self) -> Anchors | None:
        union: dict[tuple[str, str], None] = {}
        for part in self.parts:
            found = part.anchors()
            if found is None:
                return None
            for anchor in found:
                union[anchor] = None
        return tuple(union) if len(union) <= _MANY_ANCHORS else None

    def cost(self) -> int:
        return max(part.cost() for part in self.parts) + 1


@final
class Neither(Node):
    """True when the part is not."""

    __slots__ = ("part",)

    def __init__(self, part: Node) -> None:
        self.part = part

    def test(self, event: Event) -> bool:
        return not self.part.test(event)

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        place = len(steps)
        result = not self.part.explain(event, depth + 1, steps)
        steps.insert(place, Step("not", "", MISSING, result, depth))
        return result

    def settled(self, known: Known) -> Node | bool:
        left = self.part.settled(known)
        return not left if isinstance(left, bool) else self if left is self.part else Neither(left)

    def cost(self) -> int:
        return self.part.cost() + 1


@final
class Holds(Node):
    """An `x-correlator.where` condition on the event itself."""

    __slots__ = ("_answer", "_wanted", "says", "where")

    def __init__(self, where: WhereTest, says: str) -> None:
        self.where = where
        self.says = says
        self._answer = where.answer_of_one()
        self._wanted = not where.where.negated

    def test(self, event: Event) -> bool:
        return self._answer(event) is self._wanted

    def explain(self, event: Event, depth: int, steps: list[Step]) -> bool:
        met = self._answer(event)
        says = self.says if met is not None else f"{self.says} (not known)"
        steps.append(Step(says, "", met, met is self._wanted, depth))
        return met is self._wanted

    def cost(self) -> int:
        return 9


def _cost(node: Node) -> int:
    return node.cost()


def _left(parts: Sequence[Node], known: Known, *, decides: bool) -> tuple[Node, ...] | bool:
    """The parts of a join that are still open; `decides` where one part decides the whole, its opposite
    where none is left."""
    left: list[Node] = []
    for part in parts:
        settled = part.settled(known)
        if settled is decides:
            return decides
        if not isinstance(settled, bool):
            left.append(settled)
    return tuple(left) if left else not decides


def _joined(parts: Sequence[Node], *, every: bool) -> Node:
    return parts[0] if len(parts) == 1 else (Both(parts) if every else Either(parts))


def anchor_rank(anchors: Anchors) -> tuple[int, int, Anchors]:
    """Smaller is a better index: few values of few, widely shared fields."""
    weight = max((_FIELD_RANK.get(field, 2) for field, _ in anchors), default=0)
    return weight, len(anchors), anchors


# Fields that many rules share, so that one look-up an event serves them all; the dialect comes last,
# since it lets through everything a source says.
_FIELD_RANK: dict[str, int] = {"kind": 0, "@kind": 0, "EventID": 1, "@dialect": 4, "dialect": 4, "Channel": 3}


# ---- compiling ---------------------------------------------------------------------------------


def _any_event(_: Event) -> bool:
    return True


def _exact(node: Node | None) -> bool:
    """Whether an anchor that fits makes the part true."""
    return (
        isinstance(node, Texts)
        and node.anchors() is not None
        and not node.cased
        and all(_only_itself(text) for text in node.equals)
    )


@final
class Predicate:
    """A compiled condition.

    anchors: alternatives (field, text): the predicate can only be true of an event in which
        str(value of the field, as `Accessor` reads it).lower() is the text (a list: of an element)
        for at least one of them; None if there is no such set; () if it is never true.
    choices: all such sets, the best for itself first; which is best in an index depends on the others.
    exact: an anchor that fits decides alone, no test is needed.
    test: whether an event satisfies the condition.
    """

    __slots__ = ("anchors", "choices", "exact", "root", "test")

    def __init__(self, root: Node | None) -> None:
        self.root = root
        self.test: Callable[[Event], bool] = root.test if root is not None else _any_event
        self.anchors: Anchors | None = root.anchors() if root is not None else None
        self.choices: tuple[Anchors, ...] = tuple(
            sorted(set(root.anchor_choices() if root is not None else ()), key=anchor_rank)
        )
        self.exact = _exact(root)

    def beyond(self, anchors: Anchors) -> Callable[[Event], bool]:
        """The test of an event of which one of these `choices` is known to fit: without the part it settles."""
        root = self.root
        if isinstance(root, Both):
            for part in root.parts:
                if _exact(part) and part.anchors() == anchors:
                    return _joined([one for one in root.parts if one is not part], every=True).test
        return self.test

    def settled(self, known: Known) -> Predicate | bool:
        """What is left to ask of events of which so much is known; True or False where that is nothing."""
        if self.root is None:
            return True
        left = self.root.settled(known)
        return left if isinstance(left, bool) else self if left is self.root else Predicate(left)

    def explain(self, event: Event) -> list[Step]:
        """Every part with the value it met, the whole first; steps[0].holds == test(event)."""
        steps: list[Step] = []
        if self.root is None:
            return [Step("every event", "", MISSING, True, 0)]
        self.root.explain(event, 0, steps)
        return steps


def compile_condition(
    condition: Any,
    logsource: LogSource,
    where: Sequence[Where],
    places: Places | None,
    zone: tzinfo,
    *,
    filter_logsource: bool = True,
) -> Predicate:
    """The predicate of a detection rule.

    condition: a tree of FieldTest, All, Any_, Not (None: every event). where: conditions on the event
    itself. zone: the site's time zone. filter_logsource=False: the log source restricts nothing.
    """
    compiler = _Compiler(places, zone)
    parts: list[Node] = []
    if filter_logsource:
        source = logsource_condition(logsource)
        if source is not None:
            parts.append(compiler.node(source))
    if condition is not None:
        parts.append(compiler.node(condition))
    for entry in where:
        parts.append(Holds(compile_where(entry, places), where_text(entry)))
    if not parts:
        return Predicate(None)
    return Predicate(parts[0] if len(parts) == 1 else Both(parts))


class _Compiler:
    __slots__ = ("accessors", "places", "zone")

    def __init__(self, places: Places | None, zone: tzinfo) -> None:
        self.places = places
        self.zone = zone
        self.accessors: dict[str, Accessor] = {}

    def accessor(self, field: str) -> Accessor:
        found = self.accessors.get(field)
        if found is None:
            found = self.accessors[field] = accessor_of(field, self.places)
        return found

    def node(self, tree: Any) -> Node:
        if isinstance(tree, All):
            return self.joined(tree.parts, every=True)
        if isinstance(tree, Any_):
            return self.joined(tree.parts, every=False)
        if isinstance(tree, Not):
            return Neither(self.node(tree.part))
        return self.leaf(tree)

    def joined(self, parts: Sequence[Any], *, every: bool) -> Node:
        """`and`/`or` of the parts. Alternatives of one field that differ in the value become one leaf."""
        nodes: list[Node] = []
        groups: dict[tuple[str, str, bool], list[FieldTest]] = {}
        for part in _flat(parts, All if every else Any_):
            # neq over alternatives is `and`: neither a nor b.
            key = _groupable(part, every)
            if key is not None:
                groups.setdefault(key, []).append(part)
            else:
                nodes.append(self.node(part))
        for tests in groups.values():
            nodes.append(self.texts(tests) if tests[0].test != "keyword" else self.keywords(tests))
        return _joined(nodes, every=every)

    def leaf(self, test: FieldTest) -> Node:
        how, neq = test.test, test.neq
        if how == "never":
            return Never()
        if _simple(test):
            return self.texts([test]) if how != "keyword" else self.keywords([test])
        says = test_text(test)
        if how == "time":
            return TimePart(says, neq, test.flags, test.value, self.zone)
        if how == "keyword":
            return Keywords(says, neq, test.cased, (), _wild_pattern(test, whole=False))
        accessor = self.accessor(test.field)
        if how == "equals":
            return IsNull(accessor, says, neq)
        if how == "exists":
            return Exists(accessor, says, bool(test.value))
        if how == "wildcard":
            pieces = _pieces(test)
            if pieces is not None:
                return Wildcards(accessor, says, neq, test.cased, pieces)
            return Pattern(accessor, says, neq, _wild_pattern(test, whole=True), not test.cased, 0)
        if how == "regex":
            pattern, first = _compiled(test)
            if not test.field:
                return Keywords(says, neq, True, (), pattern, first)
            return Pattern(accessor, says, neq, pattern, False, first)
        if how == "cidr":
            return InNetwork(accessor, says, neq, test.value)
        if how in ("lt", "lte", "gt", "gte"):
            return Compare(accessor, says, neq, how, test.value)
        if how == "field":
            return SameField(accessor, says, neq, test.flags or "equals", self.accessor(str(test.value)))
        raise ValueError(f"no such field test: {how!r}")

    def texts(self, tests: Sequence[FieldTest]) -> Texts:
        first = tests[0]
        equals: list[str] = []
        starts: list[str] = []
        ends: list[str] = []
        contains: list[str] = []
        for test in tests:
            place, text = _shape(test)
            if not first.cased:
                text = text.lower()
            (equals if place == "=" else starts if place == "^" else ends if place == "$" else contains).append(text)
        says = test_text(first) if len(tests) == 1 else _alternatives_text(tests)
        return Texts(self.accessor(first.field), says, first.neq, first.cased, equals, starts, ends, contains)

    def keywords(self, tests: Sequence[FieldTest]) -> Keywords:
        first = tests[0]
        needles = [str(test.value) if first.cased else str(test.value).lower() for test in tests]
        says = test_text(first) if len(tests) == 1 else _alternatives_text(tests)
        return Keywords(says, first.neq, first.cased, needles, None)


def _flat(parts: Sequence[Any], kind: type[Any]) -> list[Any]:
    """The parts, with nested joins of the same kind taken apart."""
    flat: list[Any] = []
    for part in parts:
        if isinstance(part, kind):
            flat.extend(_flat(part.parts, kind))
        else:
            flat.append(part)
    return flat


def _groupable(part: Any, every: bool) -> tuple[str, str, bool] | None:
    """What alternatives must share to become one leaf; None for a part that stays by itself."""
    if not isinstance(part, FieldTest) or part.neq is not every or not _simple(part):
        return None
    return part.field, "keyword" if part.test == "keyword" else "text", part.cased


def _simple(test: FieldTest) -> bool:
    """Whether a test is an equals, starts, ends or contains of a text."""
    if test.test == "equals":
        return test.value is not None
    if test.test == "keyword":
        return not isinstance(test.value, tuple)
    return test.test == "wildcard" and _shape(test)[0] != ""


def _shape(test: FieldTest) -> tuple[str, str]:
    """("=", "^", "$" or "~", text) of a simple text test; ("", "") of one with wildcards elsewhere."""
    if test.test == "equals":
        return "=", text_of(test.value) or ""
    parts = list(test.value)
    while len(parts) > 1 and parts[0] == parts[1] == _STAR:
        del parts[0]
    while len(parts) > 1 and parts[-1] == parts[-2] == _STAR:
        del parts[-1]
    texts = [part for part in parts if isinstance(part, str)]
    signs = [part for part in parts if isinstance(part, Wild)]
    if len(texts) > 1 or any(sign.sign == "?" for sign in signs):
        return "", ""
    text = texts[0] if texts else ""
    if not texts:
        return "~", ""  # only stars: any text
    if len(signs) == 2:
        return "~", text
    return ("^", text) if isinstance(parts[0], str) else ("$", text)


_STAR = Wild("*")


def _pieces(test: FieldTest) -> list[str] | None:
    """The texts between stars, in lower case unless cased; None if there is a "?"."""
    pieces = [""]
    for part in test.value:
        if isinstance(part, str):
            pieces[-1] += part if test.cased else part.lower()
        elif part.sign == "*":
            pieces.append("")
        else:
            return None
    return pieces


def _wild_pattern(test: FieldTest, *, whole: bool) -> Any:
    """An RE2 pattern of a value with wildcards: over the whole text, or anywhere in it."""
    made = []
    for part in test.value:
        if isinstance(part, str):
            made.append(re2.escape(part if test.cased else part.lower()))
        else:
            made.append(".*" if part.sign == "*" else ".")
    body = "".join(made)
    return _re2(rf"(?s)\A{body}\z" if whole else f"(?s){body}")


def _re2(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def regex_text(test: FieldTest) -> str:
    """The pattern of a "regex" test as it is compiled: flags in front, anchored where the rule says so.

    flags: i, m, s as in Sigma; "^" from `re|startswith`, "$" from `re|endswith`; "b" marks a pattern
    that runs with backtracking, in Python's dialect.
    """
    letters = "".join(letter for letter in "ims" if letter in test.flags)
    pattern = str(test.value)
    if "^" in test.flags:
        pattern = rf"\A(?:{pattern})"
    if "$" in test.flags:
        pattern = rf"(?:{pattern})" + (r"\Z" if "b" in test.flags else r"\z")
    return f"(?{letters}){pattern}" if letters else pattern


def _compiled(test: FieldTest) -> tuple[Any, int]:
    """(compiled pattern, characters it looks at, 0 = all)."""
    if "b" in test.flags:
        return backtracking_re.compile(regex_text(test)), BACKTRACKING_CHARS
    return _re2(regex_text(test)), 0


def regex_problem(test: FieldTest) -> str | None:
    """Why a "regex" test cannot be compiled, in the engine's words; None if it can."""
    try:
        _compiled(test)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    except (backtracking_re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


# ---- words -------------------------------------------------------------------------------------

_SAYS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


def shown(value: Any) -> str:
    """A value as an explanation writes it: quoted text, absent, null, at most 80 characters."""
    if value is MISSING:
        return "absent"
    if value is None:
        return "null"
    text = f'"{value}"' if isinstance(value, str) else (text_of(value) or str(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _value_text(test: FieldTest) -> str:
    if isinstance(test.value, tuple):
        return '"' + "".join(part if isinstance(part, str) else part.sign for part in test.value) + '"'
    return shown(test.value)


def test_text(test: FieldTest) -> str:
    """One field test in plain words: `EventID is 4625`, `Image ends with "cmd.exe"`."""
    field = test.field.removeprefix("@")
    how = test.test
    no = " not" if test.neq else ""
    if how == "never":
        return "never"
    if how == "exists":
        return f"{field} is {'present' if test.value else 'absent'}"
    if how == "keyword":
        return f"the message{' does not contain' if test.neq else ' contains'} {_value_text(test)}"
    if how == "time":
        return f"the {test.flags} of its local time is{no} {test.value}"
    if how == "regex":
        subject = field or "the message"
        return f"{subject} {'does not fit' if test.neq else 'fits'} the pattern /{test.value}/"
    if how == "cidr":
        return f"{field} is{no} in {test.value}"
    if how in _SAYS:
        return f"{field} {'not ' if test.neq else ''}{_SAYS[how]} {test.value}"
    if how == "field":
        verb = {"equals": "equals", "startswith": "starts with", "endswith": "ends with", "contains": "contains"}
        said = verb[test.flags or "equals"]
        return f"{field} {'not: ' if test.neq else ''}{said} the field {test.value}"
    exactly = " (case counts)" if test.cased else ""
    if how == "wildcard":
        place, text = _shape(test)
        verb = {"^": "starts with", "$": "ends with", "~": "contains"}
        if place in verb:
            said = f"{field} {'not: ' if test.neq else ''}{verb[place]} {shown(text)}"
            return said + exactly
        return f"{field} is{no} like {_value_text(test)}{exactly}"
    return f"{field} is{no} {_value_text(test)}{exactly}"


def _alternatives_text(tests: Sequence[FieldTest]) -> str:
    joint = " and " if tests[0].neq else " or "
    if len(tests) <= 4:
        return joint.join(test_text(test) for test in tests)
    return joint.join(test_text(test) for test in tests[:3]) + f"{joint}{len(tests) - 3} more"
