"""Says at which address others in the network reach the page, and what they can do there."""

import socket
from pathlib import Path

EVERY_ADDRESS = ("", "0.0.0.0", "::")
OUTSIDE = ("192.0.2.1", 9)
"""An address of no machine (RFC 5737). Choosing the route to it sends nothing."""
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def is_local(host: str) -> bool:
    """Whether a server on this host name or address answers this computer only."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def own_address() -> str | None:
    """This machine's address in its network; None without a network, and in a container, whose own address nobody
    outside reaches."""
    if any(mark.exists() for mark in CONTAINER_MARKS):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(OUTSIDE)
        except OSError:
            return None
        return probe.getsockname()[0]


def room_url(host: str, port: int, own: str | None) -> str | None:
    """Where others in the network open the page that listens on `host`. None where they cannot, or it is not known."""
    if is_local(host):
        return None
    name = own if host in EVERY_ADDRESS else host
    return f"http://[{name}]:{port}/" if name and ":" in name else name and f"http://{name}:{port}/"


def announcement(host: str, port: int, own: str | None) -> list[str]:
    """What the terminal says before a page starts that is not for this computer only."""
    if is_local(host):
        return []
    url = room_url(host, port, own)
    return [
        f"Address in your network: {url}"
        if url
        else f"Address in your network: the address of this machine (or of the host of this container), port {port}.",
        "Warning: everyone in the network can use this page. Without a login they can read, start, cancel and delete "
        "runs, use this machine's access to the Hub, and open models, data and adapters of it by their paths. Use it "
        "only in a network that you trust, or set RANKVIZ_SHARED=true: then each visitor has limits, and no path is "
        "opened. Under a name other than this machine's, it answers once RANKVIZ_HOSTS has that name.",
    ]
