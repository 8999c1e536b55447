"""What the roles say of themselves over HTTP: the API's answers, and the pages of metrics that can be reached."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from windlass.client import Client, ClientError
from windlass.doctor.papers import MOST, Papers
from windlass.doctor.ways import Ways
from windlass.http import HttpClient, trusting
from windlass.settings import Metrics

ANSWER_S = 5.0
#: `windlass up` gives each role the next port; after so many that nobody listens on there is none.
ROLES, GAP = 200, 2


async def gather_api(ways: Ways, papers: Papers) -> None:
    """What the API answers to this host's token."""
    try:
        client = Client(
            ways.api_url, token=ways.token() or None, ca_file=ways.ca_file or None, timeout=ANSWER_S, retries=0
        )
    except ValueError as fault:
        return papers.without("api/", fault)
    async with client:
        asked: dict[str, tuple[str, Callable[[], Awaitable[Any]]]] = {
            "version.json": ("the API's version", client.version),
            "whoami.json": ("whom the API takes this host for", client.whoami),
            "cluster.json": ("the cluster at one glance, as the API tells it", client.cluster),
            "nodes.json": ("nodes, as the API tells them", client.nodes.list),
        }
        for name, (what, ask) in asked.items():
            try:
                papers.put(f"api/{name}", what, await ask())
            except ClientError as fault:
                papers.without(f"api/{name}", fault)
                if name == "version.json":
                    return


async def gather_metrics(ways: Ways, settings: Metrics, papers: Papers) -> None:
    """The API's page, and those of the roles of this host."""
    token = ""
    try:
        token = ways.token()
        verify: Any = trusting(ways.ca_file) if ways.ca_file else True
    except ValueError as fault:
        return papers.without("metrics/", fault)
    async with HttpClient(timeout=ANSWER_S, verify=verify, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        await _page(http, "api", f"{ways.api_url.rstrip('/')}/metrics", headers, papers)
        if not settings.port:
            return papers.without("metrics of the roles of this host", "metrics.port is not set here")
        missed = 0
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        for port in range(settings.port, min(settings.port + ROLES, 65_536)):
            there = await _page(http, f"port-{port}", f"http://{host}:{port}/metrics", {}, papers, needed=missed == 0)
            missed = 0 if there else missed + 1
            if missed == GAP:
                return


async def _page(
    http: HttpClient, name: str, url: str, headers: dict[str, str], papers: Papers, needed: bool = True
) -> bool:
    """Whether somebody served it."""
    try:
        async with asyncio.timeout(ANSWER_S), http.stream("GET", url, headers=headers) as answer:
            content = b""
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > 2 * MOST:
                    break
        if answer.status_code == 200:
            papers.put(f"metrics/{name}.txt", f"the page {url}", content.decode(errors="replace"))
            return True
        papers.without(f"metrics/{name}.txt", f"{url} answers {answer.status_code}")
    except (httpx2.HTTPError, TimeoutError) as fault:
        if needed:
            papers.without(f"metrics/{name}.txt", f"{url}: {str(fault) or type(fault).__name__}")
    return False
