"""The whole of correlator.yaml.

Each section's model lives in the package of the part it configures; a new part adds one field here.
Environment variables come before the file: CORRELATOR_KAFKA__BOOTSTRAP is `kafka.bootstrap`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from correlator.bridge.settings import BridgeSettings
from correlator.clock import DAY_MS, SECOND_MS
from correlator.console.settings import ConsoleSettings
from correlator.delivery.settings import OutputSettings
from correlator.embedded.settings import EmbeddedSettings
from correlator.impact.settings import ImpactSettings
from correlator.ingest.kafka import KafkaSettings
from correlator.ingest.settings import IngestSettings
from correlator.inputs.settings import InputsSettings
from correlator.linking.settings import LinkingSettings
from correlator.matching import EngineSettings
from correlator.notifier.settings import NotifierSettings
from correlator.privacy.settings import PrivacySettings
from correlator.run.bodies import TableFiles
from correlator.run.deciding import Deciding
from correlator.stream.settings import IngestProcessSettings, TopicSettings, WorkerSettings

ENVIRONMENT = "CORRELATOR_"


class EngineOptions(BaseModel):
    """What decides beside rules and site; part of the configuration's hash (docs/rules.md section 9)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lateness_ms: int = Field(
        default=2 * SECOND_MS, ge=0, le=3_600_000, description="how late an event may come and still count"
    )
    max_late_ms: int = Field(default=7 * DAY_MS, ge=0, description="what comes later than this is rejected")
    dup_window_ms: int = Field(default=60 * SECOND_MS, ge=0, description="how long repeated deliveries are recognised")
    group_idle_ms: int = Field(
        default=7 * DAY_MS, ge=60_000, description="a group is forgotten this long after its last event"
    )
    enriched: Literal["all", "notable", "off"] = Field(
        default="notable", description="which events go to events.enriched"
    )
    max_groups: int = Field(default=1_000_000, ge=1_000, description="groups that a group-by may hold")
    max_window_events: int = Field(default=100_000, ge=100, description="events that a window keeps")
    max_members: int = Field(default=2_000, ge=10, description="members that a match lists")

    def engine(self) -> EngineSettings:
        """The engine's own form."""
        return EngineSettings(**self.model_dump())


class LinkingSection(LinkingSettings):
    """How findings are linked over the site graph (docs/linking.md)."""

    enabled: bool = Field(default=True, description="false: findings are joined by shared evidence alone")
    tables: Path | None = Field(
        default=None, description="a folder with kinds.yaml and follows.yaml instead of the shipped ones"
    )
    baseline: Path | None = Field(
        default=None, description="what is usual, saved by `correlator baseline`; without it the first day only teaches"
    )

    def deciding(self) -> LinkingSettings | None:
        """The linker's own form; None if it is switched off."""
        return LinkingSettings(**self.model_dump(exclude={"enabled", "tables", "baseline"})) if self.enabled else None


class ImpactSection(ImpactSettings):
    """What threats may lead to, and what to do (docs/impact.md)."""

    enabled: bool = Field(default=True, description="false: threats say nothing of it")
    rules: tuple[Path, ...] = Field(default=(), description="impact rules beside the shipped ones: files and folders")
    measures: tuple[Path, ...] = Field(
        default=(), description="counter-measures beside the shipped ones: files and folders"
    )

    def deciding(self) -> ImpactSettings | None:
        """The impact model's own form; None if it is switched off."""
        return ImpactSettings(**self.model_dump(exclude={"enabled", "rules", "measures"})) if self.enabled else None


class SiteSettings(BaseModel):
    """One site: its model, its rules, and what decides beside them. Paths are relative to correlator.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    site: Path = Field(description="the site file")
    rules: tuple[str, ...] = Field(default=("pack",), description="rule files and folders; pack: those that come along")
    overlay: Path | None = Field(default=None, description="the site's changes to the rules")
    engine: EngineOptions = Field(default_factory=EngineOptions, description="what decides beside rules and site")
    linking: LinkingSection = Field(default_factory=LinkingSection, description="findings to threats over the graph")
    impact: ImpactSection = Field(default_factory=ImpactSection, description="what threats may lead to")

    def deciding(self) -> Deciding:
        """All settings that decide, in the engine's own form."""
        return Deciding(self.engine.engine(), self.linking.deciding(), self.impact.deciding())

    def table_files(self, folder: Path) -> TableFiles:
        """The files of tables; their paths start from a folder."""
        linking, impact = self.linking, self.impact
        return TableFiles(
            links=folder / linking.tables if linking.tables is not None else None,
            impact_rules=tuple(folder / one for one in impact.rules),
            measures=tuple(folder / one for one in impact.measures),
            baseline=folder / linking.baseline if linking.enabled and linking.baseline is not None else None,
        )


class IngestSection(IngestSettings):
    """How messages become records of the log, and the process that does it on Kafka."""

    process: IngestProcessSettings = Field(default_factory=IngestProcessSettings, description="the process")


class Settings(BaseSettings):
    """correlator.yaml."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    sites: tuple[SiteSettings, ...] = Field(default=(), description="the sites whose events are correlated")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="how to reach Kafka")
    topics: TopicSettings = Field(default_factory=TopicSettings, description="how topics are made")
    bridge: BridgeSettings = Field(default_factory=BridgeSettings, description="MQTT to Kafka")
    inputs: InputsSettings = Field(default_factory=InputsSettings, description="files, syslog, HTTP")
    ingest: IngestSection = Field(default_factory=IngestSection, description="messages to records of the log")
    embedded: EmbeddedSettings = Field(default_factory=EmbeddedSettings, description="one site without Kafka")
    worker: WorkerSettings = Field(default_factory=WorkerSettings, description="the engine on Kafka")
    privacy: PrivacySettings = Field(default_factory=PrivacySettings, description="people as tokens")
    outputs: tuple[OutputSettings, ...] = Field(default=(), description="threats to other systems")
    console: ConsoleSettings = Field(default_factory=ConsoleSettings, description="the pages")
    notifier: NotifierSettings | None = Field(default=None, description="alerts for people")

    @model_validator(mode="after")
    def _secured(self) -> Settings:
        trusting = [
            name
            for name, trusts in (
                ("bridge", self.bridge.trust_sender_time),
                ("inputs", self.inputs.trust_sender_time),
                ("ingest", self.ingest.trust_sender_time),
            )
            if trusts
        ]
        if trusting and self.kafka.security == "sasl_ssl":
            raise ValueError(
                f"{trusting[0]}.trust_sender_time is for simulations: whoever sends sets the time; not with sasl_ssl"
            )
        return self

    @model_validator(mode="after")
    def _keys_and_vault_outlive_what_they_lead_to(self) -> Settings:
        log_days = max(self.embedded.keep_events_days, self.topics.events_retention_h / 24)
        if self.privacy.tokens and len(self.privacy.keys) > 1 and self.privacy.old_keys_days < log_days:
            raise ValueError(f"privacy.old_keys_days: the log is kept {log_days:g} days, and old keys as long")
        told_days = max(self.embedded.keep_told_days, self.topics.threats_retention_h / 24)
        if self.privacy.tokens and self.privacy.keep_days < told_days:
            raise ValueError(f"privacy.keep_days: threats are kept {told_days:g} days, and who is in them as long")
        return self

    @classmethod
    def settings_customise_sources(  # the library calls it with all of them
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file; nothing else."""
        return env_settings, init_settings
