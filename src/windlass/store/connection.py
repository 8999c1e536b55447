"""A connection to PostgreSQL on which nobody waits for ever.

A server that is frozen, or cut off without a word, answers nothing and refuses nothing. So every wait for an answer has
an end, and a task that is cancelled lets go of its connection at once instead of asking the server to agree.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.rows import TupleRow

_POLL_S = 1.0


class Conn(psycopg.AsyncConnection[TupleRow]):
    """psycopg's, with every answer bounded by `answer_s` seconds; past them it is closed."""

    answer_s: float = 30.0
    _overdue = False

    async def wait(self, gen: Any, interval: float = _POLL_S, timeout: float | None = None) -> Any:
        """Drive one exchange with the server. Raises OperationalError when it takes too long."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        timer = asyncio.get_running_loop().call_later(self.answer_s, self._cut)
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise
        except psycopg.OperationalError as error:
            if self._overdue:
                raise psycopg.OperationalError(f"no answer within {self.answer_s:g} s") from error
            raise
        finally:
            timer.cancel()

    def _cut(self) -> None:
        """Have the one who waits see the end of the connection."""
        self._overdue = True
        with suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as twin:
            twin.shutdown(socket.SHUT_RDWR)
