"""Metrics, dashboard, logs and heartbeats: every name exists, nothing identifying is said, silence is noticed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from aiohttp import web
from paho.mqtt.enums import CallbackAPIVersion

from correlator.ingest import metrics
from correlator.ingest.heartbeat import Heartbeats, HttpHeartbeat, MqttHeartbeat
from correlator.ingest.logs import Log, log_to

from .keeping import until

SUFFIXES = ("_bucket", "_sum", "_count")


def known():
    return metrics.names()


def base(name):
    for suffix in SUFFIXES:
        cut = name.removesuffix(suffix)
        if cut != name and known().get(cut, ("",))[0] == "histogram":
            return cut
    return name


def expressions(root):
    board = json.loads((root / "deploy" / "grafana" / "correlator.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def test_every_metric_of_the_dashboard_exists_with_the_labels_it_is_shown_by(root):
    board = json.loads((root / "deploy" / "grafana" / "correlator.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            found = re.findall(r"correlator_\w+", target["expr"])
            assert found, target
            for name in found:
                assert base(name) in known(), name
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set(known()[base(found[0])][1]), target


def test_every_metric_is_on_the_dashboard_and_in_the_page(root):
    shown = {base(name) for one in expressions(root) for name in re.findall(r"correlator_\w+", one)}
    assert set(known()) - shown == set()
    page = (root / "docs" / "metrics.md").read_text()
    for name, (kind, labels, says) in known().items():
        assert f"| `{name}` | {kind} | {', '.join(labels) or '-'} | {says} |" in page
    assert {base(name) for name in re.findall(r"correlator_\w+", page)} <= set(known())


@pytest.fixture
def logged():
    root, ours = logging.getLogger(), logging.getLogger("correlator.process")
    before = (root.handlers[:], root.level, ours.level)
    stream = io.StringIO()
    log_to(stream, "info")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_a_log_line_is_a_json_object_with_a_fixed_word(logged):
    Log("inputs").warning("file_gap", input="eve", path="/var/log/eve.json")
    Log("inputs").debug("too quiet to hear")
    logging.getLogger("some.library").warning("a library's own words")
    first, second = logged()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {
        "level": "warning", "part": "inputs", "what": "file_gap", "input": "eve", "path": "/var/log/eve.json",
    }  # fmt: skip
    assert (second["what"], second["detail"]) == ("library", "a library's own words")


def test_what_a_message_says_has_no_field():
    for field in ("badge", "account", "user", "payload", "person", "ip"):
        with pytest.raises(ValueError, match="no log field"):
            Log("inputs").info("anything", **{field: "x"})


class Seeing:
    def __init__(self):
        self.blind = (0, "")

    def __call__(self):
        return self.blind


def test_http_heartbeats_come_while_it_sees_and_go_elsewhere_while_it_is_blind(logged):
    async def scenario():
        asked = []

        async def answer(request):
            asked.append(request.path)
            return web.Response()

        app = web.Application()
        app.router.add_get("/{name}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        at = f"http://127.0.0.1:{runner.addresses[0][1]}"
        seeing = Seeing()
        receivers = [HttpHeartbeat(url=f"{at}/well", fail_url=f"{at}/ill", every_s=0.05)]
        beating = asyncio.ensure_future(Heartbeats(receivers, "embedded", seeing).run())
        await until(lambda: asked.count("/well") >= 3)
        seeing.blind = (1_772_000_000_000, "the disk is full")
        await until(lambda: asked.count("/ill") >= 3)
        await until(lambda: [one for one in logged() if one["what"] == "blind"])
        seeing.blind = (0, "")
        before = asked.count("/well")
        await until(lambda: asked.count("/well") > before)
        await until(lambda: [one for one in logged() if one["what"] == "sees_again"])
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await runner.cleanup()

    asyncio.run(scenario())
    (blind,) = [one for one in logged() if one["what"] == "blind"]
    assert (blind["level"], blind["since_ms"], blind["reason"]) == ("critical", 1_772_000_000_000, "the disk is full")


def test_a_receiver_that_cannot_be_reached_is_told_once_and_tried_again(logged):
    async def scenario():
        receivers = [HttpHeartbeat(url="http://127.0.0.1:9/", every_s=0.02)]
        beating = asyncio.ensure_future(Heartbeats(receivers, "embedded", Seeing()).run())
        before = metrics.heartbeats.labels("http", "failed")._value.get()
        await until(lambda: metrics.heartbeats.labels("http", "failed")._value.get() > before + 3)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    asyncio.run(scenario())
    assert [one["what"] for one in logged()] == ["heartbeat_failed"]


def test_the_mqtt_heartbeat_is_retained_and_the_broker_says_gone_for_a_dead_process(mosquitto):
    states = []
    watcher = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    watcher.on_message = lambda _, __, message: states.append((json.loads(message.payload), message.retain))
    watcher.connect("127.0.0.1", mosquitto.port)
    watcher.subscribe("site/heartbeat", qos=1)
    watcher.loop_start()
    seeing = Seeing()

    async def beat(stop):
        receivers = [MqttHeartbeat(host="127.0.0.1", port=mosquitto.port, topic="site/heartbeat", every_s=0.1)]
        beating = asyncio.ensure_future(Heartbeats(receivers, "embedded", seeing).run())
        await asyncio.to_thread(stop.wait)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

    def wait(state):
        deadline = time.monotonic() + 30
        while state not in [told["state"] for told, _ in states]:
            assert time.monotonic() < deadline, states
            time.sleep(0.02)

    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(beat(stop)))
    thread.start()
    wait("sees")
    seeing.blind = (1_772_000_000_000, "the disk is full")
    wait("blind")
    stop.set()
    thread.join()
    wait("stopped")
    told = next(told for told, _ in states if told["state"] == "blind")
    assert told == {
        "process": "embedded", "state": "blind", "since_ms": "1772000000000", "why": "the disk is full",
    }  # fmt: skip
    watcher.loop_stop()
    watcher.disconnect()
