"""Every metric of every process, in one place: name, help, labels.

Each process serves those it moves (ingest/health.py). Labels hold names of our own things only (input, site,
source, rule, reason), never what a message says, so their number is bounded by the configuration.
docs/metrics.md and the dashboard in deploy/grafana are checked against this module by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry(auto_describe=True)

_LATENCY_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COMMIT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(name, help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    return Gauge(name, help, labels, registry=REGISTRY)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(name, help, labels, registry=REGISTRY, buckets=buckets)


# ---- receiving: bridge, inputs -------------------------------------------------------------------

received = _counter("correlator_received_total", "Messages received and kept", "input")
received_bytes = _counter("correlator_received_bytes_total", "Bytes of payload received and kept", "input")
input_dropped = _counter("correlator_input_dropped_total", "Messages lost before they could be kept", "input", "reason")
input_refused = _counter("correlator_input_refused_total", "Requests and connections refused", "input", "reason")
input_waiting = _gauge("correlator_input_waiting_bytes", "Bytes received and not yet kept", "input")
input_connections = _gauge("correlator_input_connections", "Open connections", "input")
file_gaps = _counter("correlator_file_gaps_total", "Times that lines of a followed file were gone unread", "input")
congested = _gauge("correlator_congested", "1 while nothing can be kept (full disk, broker away)", "process")

# ---- ingest --------------------------------------------------------------------------------------

events = _counter("correlator_events_total", "Events decoded from messages", "site", "source")
silent = _counter("correlator_silent_total", "Messages that say nothing modelled", "site")
rejects = _counter("correlator_rejects_total", "Messages and events that could not be taken", "site", "reason")
lag = _gauge("correlator_lag_records", "Records not yet read", "input")
lag_ms = _gauge("correlator_lag_ms", "Age of the last record read, ms, while records are waiting; else 0", "input")
clock_skew_ms = _gauge("correlator_clock_skew_ms", "Receive time minus device time of the last event, ms", "source")
inputs_out = _counter("correlator_inputs_out_total", "Times an input was taken out for silence", "site", "input")

# ---- engine --------------------------------------------------------------------------------------

folded = _counter("correlator_folded_total", "Events folded", "site")
duplicates = _counter("correlator_duplicates_total", "Repeated deliveries dropped", "site", "how")
late = _counter("correlator_late_total", "Events folded behind the watermark", "site")
watermark_delay_ms = _gauge("correlator_watermark_delay_ms", "Machine's time minus watermark, ms", "site")
state_entries = _gauge("correlator_state_entries", "State entries held", "site")
state_bytes = _gauge("correlator_state_bytes", "Bytes of state entries held", "site")
dropped = _counter("correlator_dropped_total", "Things pushed out of bounded state", "site", "bound")
matches = _counter("correlator_matches_total", "Matches decided, final form", "site", "rule")
threats = _counter("correlator_threat_revisions_total", "Revisions of threats told", "site", "phase")
threats_open = _gauge("correlator_threats_open", "Threats that are neither quiet nor merged", "site")
end_to_end = _histogram(
    "correlator_end_to_end_seconds", "Event time at which a threat was decided to its telling", _LATENCY_S, "site"
)
commit = _histogram("correlator_commit_seconds", "Time of one committed transaction", _COMMIT_S, "process")
learning = _gauge("correlator_learning", "1 while a site is in its learning day", "site")
poisoned = _counter("correlator_poisoned_total", "Events put aside because folding them failed", "site")
gaps = _counter("correlator_log_gaps_total", "Times that records were gone before they were folded", "site")

# ---- embedded log --------------------------------------------------------------------------------

log_bytes = _gauge("correlator_log_bytes", "Size of the embedded log on disk")
log_oldest_ms = _gauge("correlator_log_oldest_ms", "Receive time of the oldest message in the embedded log, ms UTC")
log_trimmed = _counter("correlator_log_trimmed_total", "Messages and records removed by retention", "why")
evidence_kept = _counter("correlator_evidence_total", "Raw messages copied as evidence", "site")

# ---- people and other systems: outputs, notifier, console ----------------------------------------

outbox = _gauge("correlator_outbox", "Messages to people in the outbox that are due or failed for good", "state")
alerts_10_min = _gauge("correlator_alerts_10_min", "Messages that a receiver got in the last ten minutes", "receiver")
outbox_oldest_ms = _gauge("correlator_outbox_oldest_ms", "How long the oldest message to people is overdue, ms")
output_delivered = _counter("correlator_output_delivered_total", "Threat revisions that an output delivered", "output")
output_refused = _counter(
    "correlator_output_refused_total", "Threat revisions that an output's receiver refused for good", "output"
)
output_retries = _counter("correlator_output_retries_total", "Deliveries tried again", "output")
view_trimmed = _counter(
    "correlator_view_trimmed_total",
    "Rows removed by retention from the files of console and notifier",
    "process",
    "table",
)
console_streams = _gauge("correlator_console_streams", "Open pages with a live stream")
actions_refused = _counter("correlator_actions_refused_total", "Actions of people that were refused", "site")

# ---- life ----------------------------------------------------------------------------------------

blind_since_ms = _gauge("correlator_blind_since_ms", "Since when correlation is blind, ms UTC; 0: it sees", "process")
heartbeats = _counter("correlator_heartbeats_total", "Heartbeats sent", "receiver", "result")
started_ms = _gauge("correlator_started_ms", "When the process started, ms UTC", "process")


def trimmed(process: str, rows: Mapping[str, int]) -> None:
    """Counts what retention removed from a process's own tables."""
    for table, count in rows.items():
        view_trimmed.labels(process=process, table=table).inc(count)


def names() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Name as scraped -> (type, labels, help), of every metric above."""
    found: dict[str, tuple[str, tuple[str, ...], str]] = {}
    for one in globals().values():
        if isinstance(one, Counter | Gauge | Histogram):
            metric = next(iter(one.describe()))
            name = metric.name + ("_total" if isinstance(one, Counter) else "")
            found[name] = (metric.type, one._labelnames, metric.documentation)
    return found
