"""How this host reaches the others: from its settings, a client's variables, and what its nodes were given."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from windlass.client.client import DEFAULT_URL, token_at_hand
from windlass.core.ids import NodeId
from windlass.doctor.site import Role, Site
from windlass.stream.keys import Keys
from windlass.worker.folders import known_node
from windlass.worker.join import FILE, Credentials


@dataclass(frozen=True, slots=True)
class Ways:
    """`login` is a node's own, `nodes` are the folders of this host's nodes, and `api_named` says that somebody named
    the API's URL. Where there is no way the text is empty."""

    redis_url: str
    login: tuple[str, str] | None
    api_url: str
    api_named: bool
    ca_file: str
    nodes: list[Path]
    node_token: str | None

    def token(self) -> str:
        """What opens the API, if anything. Raises ValueError where its file can't be read."""
        return (token_at_hand() or "") if self.node_token is None else self.node_token


def ways_of(site: Site) -> Ways:
    """The ways of this host, as its role goes them."""
    settings, worker = site.settings, site.role is Role.WORKER
    nodes = _nodes(settings.worker.data)
    node, held = _credentials(nodes)
    redis_url, login = settings.redis.url, None
    if node and (worker or not redis_url) and not urlsplit(redis_url).password:
        redis_url, login = redis_url or held.redis_url, (Keys(held.cluster).user(node), held.redis_password)
    given = site.url or os.environ.get("WINDLASS_URL")
    if worker:
        return Ways(redis_url, login, settings.api.url, True, settings.api.ca_file, nodes, held.token)
    ca_file = os.environ.get("WINDLASS_CA_FILE", "")
    return Ways(redis_url, login, given or DEFAULT_URL, given is not None, ca_file, nodes, None)


def _nodes(folder: Path) -> list[Path]:
    """The folders of this host's nodes; none where this user may not look."""
    try:
        return [one for one in (folder, *sorted(folder.glob("[0-9]*"))) if known_node(one)]
    except OSError:
        return []


def _credentials(nodes: list[Path]) -> tuple[NodeId | None, Credentials]:
    """Those of the first node that has some."""
    for folder in nodes:
        try:
            node, held = known_node(folder), msgspec.json.decode((folder / FILE).read_bytes(), type=Credentials)
        except (OSError, msgspec.MsgspecError):
            continue
        if node is not None and held.cluster:
            return node, held
    return None, Credentials("", "")
