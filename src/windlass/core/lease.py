"""When a leader may still trust itself: a rule over its own monotonic clock.

A renewal that began at `started` (monotonic seconds) and succeeded is good for the lease's time to live, less a margin
for the answer's way back. Measuring from the start, not the answer, means a slow renewal never stretches the trust
(the rule River's elector keeps too).
"""

SAFETY_MARGIN_S = 1.0


def trusted_until(started: float, ttl_s: float) -> float:
    """The monotonic moment from which the holder must not act without a new renewal."""
    return started + max(ttl_s - SAFETY_MARGIN_S, ttl_s / 2)
