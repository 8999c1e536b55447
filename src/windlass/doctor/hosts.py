"""Which addresses are this machine."""

import ipaddress


def near(host: str) -> bool:
    """Whether this names the machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")
