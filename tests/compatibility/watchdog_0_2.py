"""What a watchdog of version 0.2 says and understands, and what it leaves on the disk. Never to be edited."""

GREETING = """{"v": 1, "pid": 4242, "since": 12.5, "kept": [\
{"attempt": "att_1", "fence": 2, "pid": 4243, "exit": null}, \
{"attempt": "att_2", "fence": 2, "pid": 4244, "exit": [7, false]}]}"""
END = """{"end": "att_1", "code": 9, "signalled": true}"""
#: Answers to a request with the number 0.
SPAWNED = """{"n": 0, "pid": 4245}"""
FENCED = """{"n": 0, "error": "fenced"}"""
NOT_FOUND = """{"n": 0, "error": "os", "text": "No such file or directory", "path": "/no/such"}"""

#: The fields of every request it understands, beside `op`.
ASKS = {
    "spawn": {"n", "attempt", "fence", "how"},
    "signal": {"attempt", "number"},
    "forget": {"attempt"},
    "guard": {"address", "labels"},
    "limit": {"seconds"},
}
#: The fields of `how`: it takes no others.
HOW = {"program", "argv", "env", "cwd", "out", "err", "address_space"}

#: The file of exits nobody has taken note of.
EXITS = """["att_3", 2, 9, true]
["att_4", 3, 0, false]
"""
