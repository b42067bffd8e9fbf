"""TLS of our listeners, from certificate files."""

from __future__ import annotations

import ssl

from correlator.errors import UsageError
from correlator.inputs.settings import TlsServer


def server_context(tls: TlsServer) -> ssl.SSLContext:
    """TLS 1.2 or newer with the listener's certificate; with `clients_ca` only known clients get in.

    Raises UsageError that names the file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{tls.certificate}, {tls.key}: no usable certificate and key: {error}") from error
    if tls.clients_ca is not None:
        try:
            context.load_verify_locations(tls.clients_ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{tls.clients_ca}: no usable certificates: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context
