"""What agent and watchdog share: files in the worker's data folder, and lines of JSON over a unix socket.

The watchdog greets whoever connects with {v, pid, since, kept}. A request is {op, n, ...}; the answer to one that wants
any carries the same n. Ends come by themselves as {end, code, signalled, ran_s}. The operation inventory is answered
with {kept}, as in the greeting.

A watchdog outlives its agent, so a newer agent meets an older watchdog: VERSION grows with each addition, an agent asks
an older one only for what that version knew, and nothing is ever taken away or given another meaning. What one of them
does not know, it passes over: a field, or an operation (answered with {error: "unknown"} where an answer is awaited).
"""

#: 2: ran_s of an end. 3: the operation inventory, and ran_s of what is kept.
VERSION = 3

#: Held by the one watchdog of the folder as long as it lives; its process id is in it.
LOCK = "watchdog.lock"
SOCKET = "watchdog.sock"
LOG = "watchdog.log"
#: When Redis or the API last had a word from the agent: seconds since boot, as text.
LEASE = "lease"
#: Attempts the watchdog has ended, one a line, written to the disk before they are.
FENCED = "fenced"
#: Exits no agent has taken note of, left by a watchdog that had nothing more to do.
EXITS = "exits"
#: Since when it has kept everything, left by one that ended of itself and taken away by the next: moment and boot.
SINCE = "kept-since"

#: How its starter learns what became of a start: it serves; another one does.
SERVES, TAKEN = 0, 3
