"""HTTPS: the certificate, and its renewal while the API runs."""

import asyncio
import ssl
from pathlib import Path

import structlog

from windlass.errors import SettingsError
from windlass.settings import Api

log = structlog.get_logger("api")

LOOK_S = 5.0


def check(settings: Api) -> None:
    """Raise a SettingsError when the certificate and its key can't be used."""
    if settings.tls_cert_file:
        try:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"api.tls_cert_file or api.tls_key_file can't be used: {error}") from None


async def renew(context: ssl.SSLContext | None, settings: Api) -> None:
    """Take up a certificate whose file has changed, for the connections from then on."""
    if context is None:
        return
    seen = _stamp(settings)
    while True:
        await asyncio.sleep(LOOK_S)
        if (now := _stamp(settings)) == seen:
            continue
        try:
            _load(context, settings)
            seen = now
            log.info("certificate_renewed")
        except (OSError, ssl.SSLError) as error:  # perhaps its key is not there yet
            log.error("certificate_not_renewed", error=str(error))


def _load(context: ssl.SSLContext, settings: Api) -> None:
    context.load_cert_chain(
        settings.tls_cert_file, settings.tls_key_file, password=""
    )  # one with a password is refused


def _stamp(settings: Api) -> tuple[int, ...]:
    try:
        states = [Path(path).stat() for path in (settings.tls_cert_file, settings.tls_key_file)]
    except OSError:
        return ()
    return tuple(number for state in states for number in (state.st_mtime_ns, state.st_ino))
