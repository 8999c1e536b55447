"""Looks a site over: what may break a promise, or soon stops the work, and what to do about it (`windlass doctor`), and
what somebody who helps from afar wants to see (`windlass debug`). It changes nothing but a scratch key in Redis."""
