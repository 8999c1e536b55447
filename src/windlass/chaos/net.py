"""The wires of the cluster: a proxy for each way from a member to a server, so that each can be cut by itself."""

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

from windlass.chaos.postgres_ear import PostgresEar
from windlass.chaos.proxy import Address, PlainEar, Proxy, Weather

POSTGRES, REDIS, API = "postgres", "redis", "api"
_SOCKETS = {POSTGRES: ".s.PGSQL.5432", REDIS: "valkey.sock"}


class Net:
    """All wires. `sockets` gives the folder of the servers' own sockets, once they are started."""

    def __init__(self, folder: Path, sockets: Callable[[], Path]) -> None:
        self._folder, self._sockets = folder, sockets
        self._wires: dict[tuple[str, str], Proxy] = {}
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Take all of them down."""
        await self._stack.aclose()

    async def database_url(self, member: str, url: str) -> str:
        """The database's URL by way of a wire for this member."""
        place = await self._socket(member, POSTGRES)
        return url.replace(quote(str(self._sockets()), safe=""), quote(str(place.parent), safe=""))

    async def redis_url(self, member: str) -> str:
        """Valkey's URL by way of a wire for this member."""
        return f"unix://{quote(str(await self._socket(member, REDIS)))}"

    async def port(self, member: str, port: int) -> int:
        """A port for this member that leads to an API's."""
        return (await self._lay(member, API, ("127.0.0.1", port), ("127.0.0.1", 0))).port

    async def _socket(self, member: str, server: str) -> Path:
        place = self._folder / member / _SOCKETS[server]
        place.parent.mkdir(parents=True, exist_ok=True)
        await self._lay(member, server, self._sockets() / _SOCKETS[server], place)
        return place

    async def _lay(self, member: str, server: str, target: Address, listen: Address) -> Proxy:
        ear = PostgresEar if server == POSTGRES else PlainEar
        proxy = await self._stack.enter_async_context(Proxy(target, listen=listen, ear=ear))
        self._wires[member, server] = proxy
        return proxy

    def wires(self, member: str, *servers: str) -> list[Proxy]:
        """This member's wires to these servers; to all of them when none is named."""
        return [
            proxy for (end, other), proxy in self._wires.items() if end == member and (other in servers or not servers)
        ]


async def change(wires: Iterable[Proxy], weather: Weather) -> None:
    """The same weather on all of these."""
    for wire in wires:
        await wire.change(weather)
