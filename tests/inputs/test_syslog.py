"""Syslog listeners on real sockets: what is sent is kept, in order; what cannot be kept is not read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from correlator.errors import UsageError
from correlator.inputs import SyslogInput, SyslogListener, TlsServer

from .certificates import make
from .keeping import Kept, until


@contextlib.asynccontextmanager
async def listening(kept, **settings):
    listener = SyslogListener(SyslogInput(name="sys", port=0, **settings), "site-a", kept)
    await listener.start()
    working = asyncio.ensure_future(listener.run())
    try:
        yield listener
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await listener.close()


def lines(count):
    return [f"<38>Mar  1 02:14:05 ws1 sshd[812]: line {n}".encode() for n in range(count)]


async def send(port, data, tls=None):
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("framing", ["octet counting", "line feeds"])
def test_tcp_messages_are_kept_in_order_with_one_stamp_each(framing):
    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="tcp") as listener:
            wanted = lines(1200)
            if framing == "octet counting":
                await send(listener.port, b"".join(b"%d %s" % (len(one), one) for one in wanted))
            else:
                await send(listener.port, b"\n".join(wanted))
            await until(lambda: len(kept.messages) == 1200)
        assert kept.payloads == wanted
        assert [one.offset for one in kept.messages] == list(range(1200))
        first = kept.messages[0]
        assert (first.input, first.site, first.message.channel) == ("sys", "site-a", "syslog/sys")
        assert len({one.message.raw for one in kept.messages}) == 1200

    asyncio.run(scenario())


def test_udp_one_datagram_is_one_message():
    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="udp") as listener:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for one in lines(300):
                    sender.sendto(one + b"\n", ("127.0.0.1", listener.port))
                await until(lambda: len(kept.messages) == 300)
        assert kept.payloads == lines(300)

    asyncio.run(scenario())


def test_udp_waits_in_a_bounded_queue_and_then_in_the_socket_while_nothing_can_be_kept():
    async def scenario():
        kept = Kept()
        kept.hold()
        async with listening(kept, protocol="udp", queue_bytes=65_536) as listener:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for one in lines(4000):
                    sender.sendto(one, ("127.0.0.1", listener.port))
                    await asyncio.sleep(0)
                await until(lambda: listener._queued_bytes >= 65_536)
                await asyncio.sleep(0.05)
                assert listener._queued_bytes < 65_536 + 100
                assert not kept.messages
                kept.free()
                await asyncio.sleep(0.1)
                sender.sendto(b"<1>last", ("127.0.0.1", listener.port))
                await until(lambda: b"<1>last" in kept.payloads)
        assert kept.payloads[:1000] == lines(1000)

    asyncio.run(scenario())


def test_a_connection_is_not_read_while_nothing_can_be_kept_and_loses_nothing():
    async def scenario():
        kept = Kept()
        kept.hold()
        wanted = [b"<38>" + b"x" * 1000 + b" %d" % n for n in range(20_000)]
        async with listening(kept, protocol="tcp") as listener:
            sending = asyncio.ensure_future(send(listener.port, b"\n".join(wanted) + b"\n"))
            await asyncio.sleep(0.3)
            assert not sending.done()  # 20 MB do not fit into the buffers between: the sender waits
            kept.free()
            await sending
            await until(lambda: len(kept.messages) == 20_000)
        assert kept.payloads == wanted

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_closed_at_once():
    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="tcp", max_connections=1) as listener:
            _, first = await asyncio.open_connection("127.0.0.1", listener.port)
            first.write(b"<1>one\n")
            await until(lambda: kept.payloads == [b"<1>one"])
            reader, second = await asyncio.open_connection("127.0.0.1", listener.port)
            assert await reader.read() == b""
            first.write(b"<1>two\n")
            await until(lambda: kept.payloads == [b"<1>one", b"<1>two"])
            for writer in (first, second):
                writer.close()

    asyncio.run(scenario())


def test_what_a_connection_sent_before_a_stop_is_kept():
    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="tcp") as listener:
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"<1>one\n<1>half")
            await until(lambda: kept.payloads == [b"<1>one"])
        writer.close()
        assert kept.payloads == [b"<1>one", b"<1>half"]

    asyncio.run(scenario())


def test_tls_lets_in_clients_with_a_certificate_of_ours_only(tmp_path):
    make(tmp_path, "server", "client")
    tls = TlsServer(certificate=tmp_path / "server.pem", key=tmp_path / "server.key", clients_ca=tmp_path / "ca.pem")

    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="tls", tls=tls) as listener:
            known = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            known.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
            await send(listener.port, b"9 <34>1 abc", known)
            await until(lambda: kept.payloads == [b"<34>1 abc"])
            unknown = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await send(listener.port, b"9 <34>1 xyz", unknown)
            await asyncio.sleep(0.1)
        assert kept.payloads == [b"<34>1 abc"]

    asyncio.run(scenario())


def test_what_is_wrong_with_an_address_or_certificate_is_said_in_words(tmp_path):
    async def scenario():
        kept = Kept()
        async with listening(kept, protocol="tcp") as listener:
            other = SyslogListener(SyslogInput(name="two", protocol="tcp", port=listener.port), "", kept)
            with pytest.raises(UsageError, match=r"input two: cannot listen on 127\.0\.0\.1:\d+/tcp"):
                await other.start()
        missing = TlsServer(certificate=tmp_path / "no.pem", key=tmp_path / "no.key")
        with pytest.raises(UsageError, match=r"no\.pem"):
            await SyslogListener(SyslogInput(name="x", protocol="tls", tls=missing, port=0), "", kept).start()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "settings", [{"protocol": "tls"}, {"protocol": "udp", "tls": {"certificate": "a", "key": "b"}}]
)
def test_tls_and_certificates_go_together(settings):
    with pytest.raises(ValueError, match="protocol tls needs"):
        SyslogInput(name="x", **settings)
