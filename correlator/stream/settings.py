"""Settings of the stream: the parts `topics:`, `worker:` and `ingest_process:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from correlator.ingest.heartbeat import Heartbeat


class TopicSettings(BaseModel):
    """How topics are made. Partitions are for life: a site's events stay in one (docs/streaming.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(default=4, ge=1, le=1_000, description="of events and state; a decision for life")
    raw_partitions: int = Field(default=4, ge=1, le=1_000, description="of each raw topic")
    replication: int = Field(default=1, ge=1, le=10, description="copies of each partition; 3 in production")
    raw_retention_h: int = Field(default=72, ge=1, description="how long raw messages are kept")
    events_retention_h: int = Field(default=24 * 14, ge=1, description="at least the longest replay you want")
    told_retention_h: int = Field(default=24 * 90, ge=1, description="matches, events.enriched: who was where")
    rejects_retention_h: int = Field(default=24 * 90, ge=1, description="rejects")
    threats_retention_h: int = Field(default=24 * 365, ge=1, description="threats")
    evidence_retention_h: int = Field(default=24 * 365, ge=1, description="raw messages of threats")


class ProcessSettings(BaseModel):
    """What every process of the stream has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance: str = Field(
        default="", description="fixed id of this process: restarted under it, it goes on at once (static membership)"
    )
    session_ms: int = Field(default=10_000, ge=1_000, description="after this silence others take over its partitions")
    heartbeats: tuple[Heartbeat, ...] = Field(default=(), description="who is told every so often that it still sees")
    health_host: str = Field(default="127.0.0.1", description="address of /live, /ready and /metrics")
    health_port: int = Field(default=0, ge=0, le=65_535, description="port of /live, /ready and /metrics; 0: off")


class WorkerSettings(ProcessSettings):
    """`correlator worker`."""

    app: str = Field(default="correlator-worker", description="name of the group of workers")
    batch_records: int = Field(default=50, ge=1, le=1_000, description="most records in one transaction")
    batch_ms: int = Field(default=10, ge=1, le=1_000, description="longest a record waits for others")
    checkpoint_ms: int = Field(
        default=1_000, ge=0, description="state is written this often; between, only outputs and a mark. 0: always"
    )
    stop_on_gap: bool = Field(default=False, description="stop when a part of the log is missing, instead of going on")
    stall_s: int = Field(default=60, ge=5, description="a worker whose commits stand still this long is ended")
    data_dir: Path | None = Field(default=None, description="scratch folder; default: a temporary one")


class IngestProcessSettings(ProcessSettings):
    """`correlator ingest`."""

    group: str = Field(default="correlator-ingest", description="name of the group of ingest processes")
    fetch_records: int = Field(default=2_000, ge=1, le=100_000, description="most messages taken in one turn")
    commit_ms: int = Field(default=200, ge=10, description="how often positions are stored")
    unread_end_ms: int = Field(
        default=60_000, ge=1_000,
        description="a process that holds no partition although some are read by nobody else ends after this, to be"
        " started again",
    )  # fmt: skip
