"""Our own logs: one event name that never varies, ids as fields, on standard error.

JSON lines for machines, colours for people. Records of libraries that use the standard `logging` come out the same way.
"""

import logging
import os
import sys

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from windlass import tracing
from windlass.errors import SettingsError
from windlass.settings import Log, Metrics, Tracing

#: Libraries that tell at info what we tell ourselves, or tell too much.
_QUIET = ("aiodocker", "aiohttp", "asyncio", "httpcore2", "httpx2", "psycopg.pool", "uvicorn", "uvicorn.error")

#: No name to install by: whoever owns it on a public index, this project does not.
_MISSING = "OpenTelemetry's SDK is not here; in Windlass' folder, `make install` or `pip install '.[otel]'` brings it"
_OTEL_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(log: Log, role: str) -> None:
    """Set up logging for this process. Every line carries the role."""
    as_json = log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[log.level.upper()]

    def add_role(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_role,
    ]
    structlog.configure(
        processors=[*shared, *_rendering(as_json)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(as_json)],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def serve_metrics(metrics: Metrics, role: str) -> None:
    """A page for Prometheus at /metrics, in a thread of its own; nothing with port 0. Raises SettingsError."""
    from windlass.metrics import built

    built(role)
    if not metrics.port:
        return
    from prometheus_client import start_http_server

    try:
        start_http_server(metrics.port, metrics.host)
    except OSError as error:
        raise SettingsError(
            f"metrics.port = {metrics.port} on {metrics.host} can't be had ({error.strerror}): "
            "give each role of a machine a port of its own"
        ) from None


def export_spans(settings: Tracing, role: str, cluster: str) -> None:
    """Make spans, when there is a collector for them. Raises SettingsError when the extra for that is missing."""
    asked = settings.exporter if settings.exporter != "auto" else _otel_says()
    if asked == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from windlass import exporting
    except ModuleNotFoundError as missing:
        if settings.exporter == "otlp":
            raise SettingsError(f"tracing.exporter = 'otlp': {_MISSING}") from missing
        structlog.get_logger("tracing").warning("tracing_off", error=f"OTEL_* asks for spans: {_MISSING}")
        return
    tracing.use(exporting.tracer(settings, role, cluster))


def _otel_says() -> str:
    """What the standard variables ask for."""
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporters:
        return "otlp" if "otlp" in exporters.split(",") else "none"
    return "otlp" if any(os.environ.get(name) for name in _OTEL_ENDPOINTS) else "none"


def _rendering(as_json: bool) -> list[Processor]:
    # Tracebacks are plain in both: richer ones show local variables, and those may hold secrets.
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time", exception_formatter=plain)]
