"""What decides beside rules and site, as plain values, and the one place where a pipeline is put together.

Settings (`Deciding`), tables (`Tables`), and a baseline: what was usual before, for a site that has learned
nothing yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from correlator.impact.live import LiveImpact
from correlator.impact.measures import Measure, load_measures
from correlator.impact.rules import RuleBase, load_rules
from correlator.impact.settings import ImpactSettings
from correlator.linking.linker import GraphLinker
from correlator.linking.settings import LinkingSettings
from correlator.linking.shared import SharedEvidenceLinker
from correlator.linking.tables import LinkTables, shipped_tables
from correlator.matching import EngineSettings
from correlator.premises import Premises
from correlator.rules.syntax import RuleSet
from correlator.run.pipeline import Pipeline

Entries = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Deciding:
    """Settings that decide. linking: None joins findings by shared evidence alone; impact: None says nothing of it."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    linking: LinkingSettings | None = field(default_factory=LinkingSettings)
    impact: ImpactSettings | None = field(default_factory=ImpactSettings)


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables that decide: of linking, impact rules, counter-measures."""

    links: LinkTables
    impact_rules: RuleBase
    measures: tuple[Measure, ...]


@cache
def tables_that_come_along() -> Tables:
    """The tables of this release."""
    return Tables(shipped_tables(), load_rules(), load_measures())


def pipeline_of(
    premises: Premises,
    rules: RuleSet,
    deciding: Deciding,
    tables: Tables | None = None,
    baseline: Entries = (),
    *,
    by_evidence: bool = True,
    retired: RuleSet | None = None,
) -> Pipeline:
    """A fresh pipeline of a site, as every carrier runs it.

    by_evidence: False joins findings over the graph alone. retired: see `Pipeline`.
    """
    tables = tables or tables_that_come_along()
    shared = SharedEvidenceLinker()
    linker = (
        GraphLinker(premises, deciding.linking, tables.links, shared if by_evidence else None, baseline=baseline)
        if deciding.linking is not None
        else shared
    )
    impact = (
        LiveImpact(premises, tables.impact_rules, tables.measures, deciding.impact)
        if deciding.impact is not None
        else None
    )
    return Pipeline(
        premises.site_id, rules, premises, deciding.engine, premises.timezone, linker, retired=retired, impact=impact
    )
