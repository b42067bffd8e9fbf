"""Webhooks over real HTTP: what is answered 202 is kept, and everything else says why not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import aiohttp
import pytest

from correlator.inputs import HttpInput, HttpListener, HttpServer

from .keeping import Kept, until

TOKEN = "0123456789abcdef-nvr"
OTHER = "0123456789abcdef-mail"


@contextlib.asynccontextmanager
async def listening(kept, *, trust=False, **server):
    inputs = [
        HttpInput(name="nvr", token=TOKEN, max_body_bytes=2048),
        HttpInput(name="mail", token=OTHER, site="site-b"),
    ]
    listener = HttpListener(HttpServer(port=0, **server), inputs, "site-a", kept, trust_sender_time=trust)
    await listener.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as session:

        async def post(body, path="/v1/nvr", token=TOKEN, **headers):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if token is not None:
                sent["Authorization"] = f"Bearer {token}"
            async with session.post(path, data=body, headers=sent) as answer:
                return answer.status, await answer.json(content_type=None), answer.headers

        try:
            yield post
        finally:
            await listener.close()


def test_a_json_body_is_one_message_as_it_was_sent():
    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            status, answer, _ = await post(b'{\n "a": 1\n}', Content_Type="application/json")
        assert (status, answer) == (202, {"kept": 1})
        assert kept.payloads == [b'{\n "a": 1\n}']
        one = kept.messages[0]
        assert (one.input, one.site, one.message.channel, one.tick_ms) == ("nvr", "site-a", "http/nvr", -1)

    asyncio.run(scenario())


def test_ndjson_is_a_message_a_line_and_a_broken_line_is_kept_too():
    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            body = b'{"a": 1}\r\n\n{"a": \n{"a": 3}'
            status, answer, _ = await post(body, Content_Type="application/x-ndjson")
        assert (status, answer) == (202, {"kept": 3})
        assert kept.payloads == [b'{"a": 1}', b'{"a":', b'{"a": 3}']

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "token"),
    [("/v1/nvr", None), ("/v1/nvr", "wrong"), ("/v1/nvr", TOKEN + "x"), ("/v1/nvr", OTHER), ("/v1/none", TOKEN),
     ("/v1/mail", TOKEN), ("/v1/nvr", "")],
)  # fmt: skip
def test_without_this_inputs_token_nothing_is_kept(path, token):
    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            status, _, headers = await post(b"{}", path=path, token=token)
        assert (status, headers["WWW-Authenticate"], kept.messages) == (401, "Bearer", [])

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["length", "chunked", "compressed"])
def test_a_body_over_the_inputs_limit_is_refused_even_if_a_larger_input_exists(how):
    async def chunks():
        for _ in range(5):
            yield b"x" * 1000

    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            if how == "chunked":
                answered = await post(chunks())
            elif how == "compressed":
                answered = await post(gzip.compress(b"x" * 1_000_000), Content_Encoding="gzip")
            else:
                answered = await post(b"x" * 2049)
        assert (answered[0], kept.messages) == (413, [])

    asyncio.run(scenario())


def test_while_nothing_can_be_kept_the_answer_is_429_and_says_when_to_come_again():
    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            kept.hold("the disk is full")
            status, answer, headers = await post(b"{}")
            assert (status, answer["error"], headers["Retry-After"]) == (429, "the disk is full", "5")
            kept.free()
            assert (await post(b"{}"))[0] == 202

    asyncio.run(scenario())


def test_more_bodies_than_may_wait_are_answered_429_and_the_others_202_once_kept():
    async def scenario():
        kept = Kept()
        async with listening(kept, max_waiting_bytes=65_536) as post:
            kept._free.clear()  # keeps nothing, and does not know it yet
            waiting = [asyncio.ensure_future(post(b"x" * 60_000, path="/v1/mail", token=OTHER)) for _ in range(2)]
            await asyncio.sleep(0.2)
            assert (await post(b"{}"))[0] == 429
            kept.free()
            assert [(await one)[0] for one in waiting] == [202, 202]

    asyncio.run(scenario())


def test_a_body_that_is_not_kept_in_time_is_answered_503():
    async def scenario():
        kept = Kept()
        async with listening(kept, keep_timeout_s=0.05) as post:
            kept._free.clear()
            assert (await post(b"{}"))[0] == 503
            kept.free()
            await until(lambda: len(kept.messages) == 1)

    asyncio.run(scenario())


def test_a_senders_name_of_the_delivery_goes_to_the_sink_with_the_input_before_it():
    async def scenario():
        kept = Kept()
        async with listening(kept) as post:
            await post(b"{}", Idempotency_Key="a1")
            await post(b"{}", X_GitHub_Delivery="b2")
            await post(b"{}", Idempotency_Key="c" * 201)
            await post(b"{}")
        assert kept.keys == ["nvr/a1", "nvr/b2", "", ""]

    asyncio.run(scenario())


HEADERS = {
    "correlator-received-ms": "1616046000000",
    "correlator-channel": "inputs/eve.json",
    "correlator-origin": "inputs/eve.json:7",
    "correlator-line": "7",
    "correlator-site": "site-c",
}


def test_a_senders_time_and_place_are_taken_only_where_the_settings_trust_it():
    async def scenario():
        trusted, doubted = Kept(), Kept()
        async with listening(trusted, trust=True) as post:
            assert (await post(b"{}", **HEADERS))[0] == 202
            assert (await post(b"", **{"correlator-tick-ms": "1616046000100"}))[0] == 202
        async with listening(doubted) as post:
            assert (await post(b"{}", **HEADERS))[0] == 202
        one, tick = trusted.messages
        message = one.message
        assert (message.received_ms, message.channel, message.origin, message.line, one.site) == (
            1616046000000, "inputs/eve.json", "inputs/eve.json:7", 7, "site-c",
        )  # fmt: skip
        assert (tick.tick_ms, tick.site) == (1616046000100, "site-a")
        other = doubted.messages[0]
        assert other.message.received_ms > 1_700_000_000_000
        assert (other.message.channel, other.site, other.tick_ms) == ("http/nvr", "site-a", -1)

    asyncio.run(scenario())


def test_settings_want_one_token_of_some_length(tmp_path):
    with pytest.raises(ValueError, match="at least 16"):
        HttpInput(name="x", token="short")
    with pytest.raises(ValueError, match="only one of them"):
        HttpInput(name="x")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert "0123456789" not in repr(HttpInput(name="x", token=TOKEN))
    HttpListener(HttpServer(), [HttpInput(name="x", token_file=tmp_path / "token")], "", Kept())
