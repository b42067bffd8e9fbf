"""Settings of ingest: the part `ingest:` of correlator.yaml, and what each raw topic or input holds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from correlator.clock import DAY_MS


class ClockSettings(BaseModel):
    """How far a source's own clock is trusted; what is left out is as the dialect says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    basis: Literal["device", "received"] | None = Field(
        None, description="device: its time while within skew; received: never"
    )
    zone: str | None = Field(default=None, description="time zone of device times without offset, such as Europe/Rome")
    skew: str | None = Field(default=None, description="largest believable difference to the receive time, such as 5m")


class SourceSettings(BaseModel):
    """Messages of one input (and, for MQTT, of some topics of it) are of one dialect."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(description="raw topic: raw.mqtt, or raw.<name> of a followed file or listener")
    dialect: str = Field(description="`correlator sources list` names them")
    source: str = Field(default="", description="name of the source in events; default: the input's name")
    topics: tuple[str, ...] = Field(
        default=(), description="MQTT topic filters; without them all messages of the input"
    )
    site: str = Field(default="", description="site of messages that name none")
    spread: bool = Field(
        default=False, description="messages of a site may stand in any partition (its writer does not key by site)"
    )
    map: str = Field(
        default="", description="map of the dialects access and mapped: a file, or the name of one that comes along"
    )
    settings: dict[str, Any] | None = Field(default=None, description="the dialect's own settings")
    sensitive: bool = Field(
        default=False, description="patients or faces (ATNA, HL7, DICOM, FHIR, ...): rejects hold no byte of a message"
    )
    clock: ClockSettings = Field(
        default_factory=lambda: ClockSettings.model_validate({}), description="how far its clock is trusted"
    )
    envelope: Literal["none", "filebeat", "vector", "fluentbit"] = Field(
        default="none", description="what the shipper wrapped the lines in"
    )
    envelope_time: Literal["ignored", "queued", "received"] = Field(
        default="ignored", description="what the shipper's own time is taken for; queued: it kept the line since then"
    )

    @field_validator("topics", mode="before")
    @classmethod
    def _listed(cls, topics: object) -> object:
        return (topics,) if isinstance(topics, str) else topics


class IngestSettings(BaseModel):
    """How messages become records of the log. Times in ms of ingest's own clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[SourceSettings, ...] = Field(default=(), description="what each input holds, first fit first")
    pack_events: int = Field(default=500, ge=1, le=10_000, description="most events in a record")
    pack_bytes: int = Field(
        default=400_000, ge=1_000, le=2_000_000, description="payload bytes at which a record is full"
    )
    pack_ms: int = Field(default=5, ge=0, le=1_000, description="longest an event waits for others")
    tick_ms: int = Field(default=100, ge=10, le=10_000, description="how often a silent input promises")
    input_idle_ms: int = Field(
        default=60_000, ge=1_000, description="an input that nobody reads this long is taken out"
    )
    configuration_every_ms: int = Field(
        default=DAY_MS, ge=60_000, description="how often the configuration is repeated"
    )
    reject_bytes: bool = Field(
        default=True, description="rejects hold the message; never where people are tokens, nor of sensitive sources"
    )
    trust_sender_time: bool = Field(
        default=False, description="take receive times and promises from the sender (simulation only); no own ticks"
    )
