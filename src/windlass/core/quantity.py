"""Quantities in the field's notation (Kubernetes): cpu `0.5` or `500m`, memory `512Mi`, durations `90s`, `1h30m`.

Each parser takes what a user wrote, a number or a string, and gives the canonical number or raises ValueError with
the fix. Canonical numbers are themselves valid input.
"""

import math
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_DECIMAL = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "": 1}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P|)B?", re.ASCII)
_LEAST_CORES = Decimal("0.001")
_LONGEST = 64  # characters; a number of a million digits takes seconds to work with
_NEVER_S = 10 * 365 * 86_400
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _brief(text: str) -> str:
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters; round it")
    return text.strip()


def parse_cpu(value: object) -> float:
    """Cores, to a thousandth: 0.5, "0.5" and "500m" are half a core."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('write cores as a number, such as 0.5, or thousandths, such as "500m"')
    text = _brief(str(value))
    try:
        cores = Decimal(text[:-1]) / 1000 if text.endswith("m") else Decimal(text)
    except InvalidOperation:
        raise ValueError('write cores as a number, such as 0.5, or thousandths, such as "500m"') from None
    if not cores.is_finite() or not 0 < cores <= 100_000:
        raise ValueError("must be more than 0 and at most 100000 cores")
    millis = cores * 1000 if cores >= _LEAST_CORES else cores
    if millis != millis.to_integral_value():
        raise ValueError('is finer than a thousandth of a core; round it to "1m" steps')
    return float(cores)


def parse_size(value: object) -> int:
    """Bytes: 512Mi = 512 * 2**20, 1G = 10**9, a bare number is bytes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('write a size such as "512Mi", "1Gi" or a number of bytes')
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("must be a whole number of bytes")
    text = str(int(value)) if isinstance(value, int | float) else _brief(value)
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError('write a size such as "512Mi", "1Gi" or a number of bytes')
    size = int(Decimal(found[1]) * (_BINARY.get(found[2]) or _DECIMAL[found[2]]))
    if not 0 < size <= 2**60:
        raise ValueError("must be more than 0 and at most 1024Pi")
    return size


def parse_duration(value: object) -> float:
    """Seconds: 90, "90s", "1h30m", "250ms"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('write a duration such as "90s", "1h30m" or a number of seconds')
    if isinstance(value, int | float):
        seconds = float(min(value, _NEVER_S + 1))
    else:
        text = _brief(value)
        found = _SPAN.fullmatch(text)
        if found is None or not text:
            try:
                seconds = float(text)
            except ValueError:
                raise ValueError('write a duration such as "90s", "1h30m" or a number of seconds') from None
        else:
            d, h, m, s, ms = (float(part or 0) for part in found.groups())
            seconds = d * 86_400 + h * 3_600 + m * 60 + s + ms / 1000
    if not math.isfinite(seconds) or not 0 <= seconds <= _NEVER_S:
        raise ValueError("must be at least 0 and at most ten years")
    return seconds


def parse_moment(value: object) -> str:
    """A moment by RFC 3339, with its offset; given back in UTC: "2026-12-01T06:00:00Z"."""
    try:
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            raise ValueError
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError('write a moment with its offset, such as "2026-12-01T06:00:00Z" (RFC 3339)') from None
    if not 2000 <= moment.year < 3000:
        raise ValueError("must be in the years 2000 to 2999")
    return moment.isoformat().replace("+00:00", "Z")


def moment_seconds(moment: str) -> float:
    """Seconds since the epoch of what parse_moment gave."""
    return datetime.fromisoformat(moment).timestamp()


def show_size(size: int) -> str:
    """A size as people read it: 512Mi, 1.5Gi."""
    for unit, factor in reversed(_BINARY.items()):
        if size >= factor:
            return f"{size / factor:.4g}{unit}"
    return f"{size}"


def show_cpu(cores: float) -> str:
    """Cores as people read them: 0.5, 2."""
    return f"{cores:.3f}".rstrip("0").rstrip(".")
