"""Settings of the embedded carrier: the part `embedded:` of correlator.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from correlator.ingest.heartbeat import Heartbeat


class EmbeddedSettings(BaseModel):
    """One SQLite file holds the log, the state and what was told. Days count by receive time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(default=Path("correlator.sqlite3"), description="the SQLite file, on a local disk")
    keep_raw_days: float = Field(default=14, gt=0, description="raw messages; those of threats are kept as evidence")
    keep_events_days: float = Field(default=30, gt=0, description="records of the log: the longest replay you want")
    keep_movement_days: float = Field(default=90, gt=0, description="events with places, matches: who was where")
    keep_rejects_days: float = Field(default=90, gt=0, description="what could not be taken")
    keep_told_days: float = Field(default=365, gt=0, description="threats")
    keep_evidence_days: float = Field(default=365, gt=0, description="raw messages of matches and notable events")
    max_bytes: int = Field(
        default=4_294_967_296, ge=1_048_576, description="size of the file above which the oldest messages go first"
    )
    retention_s: float = Field(default=60, gt=0, description="how often old rows are looked for")
    checkpoint_ms: int = Field(default=1_000, ge=0, description="state is written this often; 0: with every record")
    idle_tick_ms: int = Field(
        default=10_000, ge=100, description="how often time is written to the log while nothing waits to be decided"
    )
    heartbeats: tuple[Heartbeat, ...] = Field(default=(), description="who is told every so often that it still sees")
    health_host: str = Field(default="127.0.0.1", description="address of /live, /ready and /metrics")
    health_port: int = Field(default=0, ge=0, le=65_535, description="port of /live, /ready and /metrics; 0: off")
    turn_messages: int = Field(default=2_000, ge=1, le=100_000, description="most messages in one transaction")
