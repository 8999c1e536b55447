"""The watchdog: one small process beside each worker's agent. It keeps processes, and ends what runs on a node that is
cut off. Nothing here imports more than the standard library, and little of that."""
