"""A worker: what one node holds, and whether it can take more."""

from windlass.core.states import Driver
from windlass.metrics.catalogue import WORKER, Figures, counter, summary

_ROLE = [WORKER]

START = summary(
    "windlass_worker_start_seconds", "From an attempt's launch coming in to its start: pull, create, start.", _ROLE
)
PULL = summary("windlass_worker_image_pull_seconds", "Time of an image pull, whatever its result.", _ROLE)
PULL_FAILURES = counter("windlass_worker_image_pull_failures_total", "Image pulls that failed or were given up.", _ROLE)
LOG_BYTES = counter("windlass_worker_log_bytes_total", "Bytes of output the API has taken from this node.", _ROLE)

FIGURES = Figures(_ROLE)
ATTEMPTS = FIGURES.gauge("windlass_worker_attempts", "Attempts that live here.")
UNCONFIRMED = FIGURES.gauge(
    "windlass_worker_unconfirmed_ends", "Attempts that ended here and the ledger has not said so."
)
DRIVERS = FIGURES.gauge(
    "windlass_worker_driver_available", "1 while the driver can start something.", {"driver": list(Driver)}
)
DISK_FREE = FIGURES.gauge("windlass_worker_disk_free_bytes", "Free on the disk of worker.data.")
DISK_SIZE = FIGURES.gauge("windlass_worker_disk_size_bytes", "Size of the disk of worker.data.")
FULL = FIGURES.gauge("windlass_worker_full", "1 while that disk has no room for another attempt.")
EXCHANGE = FIGURES.gauge("windlass_worker_exchange", "1 while the exchange over HTTP stands in for the streams.")
CONTACT_AGE = FIGURES.gauge(
    "windlass_worker_contact_age_seconds", "Since the last word with Redis or the API; the watchdog acts on it."
)
LOG_WAITING = FIGURES.gauge("windlass_worker_log_waiting_bytes", "Bytes of output that wait for the API.")
