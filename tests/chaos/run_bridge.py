"""The table of outages around the bridge: `python -m tests.chaos.run_bridge --runs 20` (about 15 s a run).

Each run has its own topics and session on one Kafka and one Mosquitto. Exit code 1 when a message was lost, came out
of order, or came twice without its mark.
"""

from __future__ import annotations

import argparse
import tempfile
import uuid
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from correlator.lab.brokers import KafkaBroker, MosquittoBroker
from tests.chaos.bridge import OUTAGES, Result, run_outage

HEAD = (
    "| outage | runs | sent | lost | redelivered | unmarked | out of order | least messages/s before it |\n|---|"
    + "--:|" * 7
)


def row(outage: str, results: list[Result]) -> str:
    cells = [
        outage,
        str(len(results)),
        f"{sum(one.sent for one in results):,}",
        str(sum(one.lost for one in results)),
        f"{sum(one.redelivered for one in results):,}",
        str(sum(one.unflagged for one in results)),
        str(sum(not one.in_order for one in results)),
        f"{min(one.rate_per_s for one in results):,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def one_run(outage: str, kafka: KafkaBroker, mosquitto: MosquittoBroker, folder: Path, seed: int) -> Result:
    prefix = f"c{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 2})
    wanted = [NewTopic(f"{prefix}.{name}", 1, 1) for name in ("raw.mqtt", "rejects")]
    for future in admin.create_topics(wanted).values():
        future.result(30)
    home = folder / prefix
    home.mkdir()
    return run_outage(outage, kafka, mosquitto, prefix, home, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs of each outage")
    parser.add_argument("--seed", type=int, default=1, help="the first run's seed; each run adds one")
    parser.add_argument("--outage", choices=sorted(OUTAGES), action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    table: list[str] = []
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        with KafkaBroker(folder / "kafka") as kafka, MosquittoBroker(folder / "mosquitto") as mosquitto:
            for outage in given.outage or OUTAGES:
                results = []
                for number in range(given.runs):
                    results.append(one_run(outage, kafka, mosquitto, folder, given.seed + number))
                    print(f"{outage} {number + 1}: {results[-1]}", flush=True)
                good &= all(not one.lost and not one.unflagged and one.in_order for one in results)
                table.append(row(outage, results))
    print(f"\n{HEAD}\n" + "\n".join(table))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
