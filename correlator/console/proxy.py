"""Login by headers of a proxy (`console.proxy`): it says who somebody is, and nobody else can.

Headers count only where the connection itself comes from an address of the proxy; what a header says about addresses
(X-Forwarded-For) counts nowhere. A header that is there twice says nothing: one of the two is not the proxy's.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import Headers

from correlator.console.settings import ProxySettings
from correlator.console.users import User, user_of


def sent_by(settings: ProxySettings, address: str, headers: Headers) -> User | None:
    """Whom the proxy says a request is of; None if the request is not the proxy's, or it says nobody with a role.

    address: of the other end of the connection.
    """
    try:
        peer = ip_address(address)
    except ValueError:
        return None
    peer = getattr(peer, "ipv4_mapped", None) or peer
    if not any(peer in one for one in settings.addresses):
        return None
    names, groups = headers.getlist(settings.name_header), headers.getlist(settings.groups_header)
    if len(names) != 1 or len(groups) != 1:
        return None
    told = {one.strip() for one in groups[0].split(",")}
    return user_of(names[0].strip(), told, settings.roles, settings.sites)
