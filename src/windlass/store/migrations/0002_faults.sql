-- What it takes to stand faults: who the schedulers are, a way for workers' reports past a broken stream, nodes that
-- drain, losses that a node's end counts as, and a word on reports that came too late.

-- Every scheduler that runs, whether or not it leads; each renews its own row.
CREATE TABLE schedulers (
    id                   text COLLATE "C" PRIMARY KEY,
    host                 text NOT NULL,
    pid                  integer NOT NULL,
    version              text NOT NULL,
    started_at           timestamptz NOT NULL DEFAULT now(),
    seen_at              timestamptz NOT NULL DEFAULT now(),
    redis_degraded_since timestamptz
);

-- Reports that came over HTTP because the stream would not take them; a row goes once the leader has dealt with it.
CREATE TABLE inbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body       bytea NOT NULL,
    -- how often a leader has taken it up: one that never gets done with it is parked
    taken      integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX inbox_by_age ON inbox (created_at);

-- Draining: cordoned, and from drain_until on what still runs there is stopped and placed elsewhere (null: never).
ALTER TABLE nodes
    ADD COLUMN draining boolean NOT NULL DEFAULT false,
    ADD COLUMN drain_until timestamptz,
    -- Its worker itself said that it takes no more work, for it is about to end.
    ADD COLUMN leaving boolean NOT NULL DEFAULT false;

-- Attempts that ran on a node when it was lost, and those that nodes sent back.
ALTER TABLE tasks
    ADD COLUMN node_losses integer NOT NULL DEFAULT 0,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0;

-- What was reported of an attempt after its end was recorded; it changed nothing.
ALTER TABLE attempts ADD COLUMN late text;
ALTER TABLE attempts DROP CONSTRAINT attempts_cause_check;
ALTER TABLE attempts ADD CONSTRAINT attempts_cause_check CHECK (cause IN ('exit_code', 'signal', 'oom', 'timeout',
    'image_pull', 'start_failed', 'node_lost', 'cancelled', 'rejected', 'drained'));
ALTER TABLE attempts ADD CONSTRAINT attempts_stop_cause_check CHECK (stop_cause IN ('timeout', 'cancelled', 'drained'));
