-- The ledger. Moments are timestamptz by this server's clock. Ids are text with C collation: they sort by birth.
-- No foreign keys between the hot tables: every write goes through one statement that checks what it needs, and a
-- key's trigger per row would cost more than the row.

CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    term       bigint NOT NULL,
    since      timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE shapes (
    id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    driver text NOT NULL CHECK (driver IN ('docker', 'process', 'mock')),
    millis integer NOT NULL CHECK (millis > 0),
    memory bigint NOT NULL CHECK (memory > 0),
    UNIQUE (driver, millis, memory)
);

CREATE TABLE jobs (
    id              text COLLATE "C" PRIMARY KEY,
    name            text,
    queue           text NOT NULL,
    labels          jsonb NOT NULL,
    spec            json NOT NULL,
    idempotency_key text,
    fingerprint     text,
    retry_of        text COLLATE "C",
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT key_with_fingerprint CHECK ((idempotency_key IS NULL) = (fingerprint IS NULL))
);
CREATE UNIQUE INDEX jobs_one_per_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_name ON jobs (name, id) WHERE name IS NOT NULL;
CREATE INDEX jobs_by_queue ON jobs (queue, id) WHERE queue <> 'default';
CREATE INDEX jobs_by_label ON jobs USING gin (labels jsonb_path_ops) WHERE labels <> '{}'::jsonb;

CREATE TABLE tasks (
    id               text COLLATE "C" PRIMARY KEY,
    job_id           text COLLATE "C" NOT NULL,
    shape            integer NOT NULL,
    priority         integer NOT NULL,
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    state            text NOT NULL DEFAULT 'queued' CHECK (state IN
        ('held', 'blocked', 'queued', 'active', 'backoff', 'succeeded', 'failed', 'cancelled')),
    version          integer NOT NULL DEFAULT 0,
    attempts         integer NOT NULL DEFAULT 0,
    retries          integer NOT NULL DEFAULT 0,
    infra_losses     integer NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    reason           text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    queued_at        timestamptz NOT NULL DEFAULT now(),
    not_before       timestamptz,
    wake_at          timestamptz,
    finished_at      timestamptz,
    expire_at        timestamptz,
    CONSTRAINT finished_when_over CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT backoff_has_end CHECK (state <> 'backoff' OR not_before IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- The line: heads of each shape in rank order. Finished rows leave it.
CREATE INDEX tasks_line ON tasks (shape, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX tasks_by_job ON tasks (job_id);
CREATE INDEX tasks_wake ON tasks (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX tasks_expire ON tasks (expire_at) WHERE expire_at IS NOT NULL;
-- For lists. Its condition is not on the state, or the planner would take it for tasks_line.
CREATE INDEX tasks_open ON tasks (job_id) WHERE finished_at IS NULL;
CREATE INDEX tasks_ended_badly ON tasks (job_id) WHERE state IN ('failed', 'cancelled');

CREATE TABLE attempts (
    id           text COLLATE "C" PRIMARY KEY,
    task_id      text COLLATE "C" NOT NULL,
    number       integer NOT NULL,
    node_id      text COLLATE "C" NOT NULL,
    node_name    text NOT NULL,
    fence        bigint NOT NULL,
    shape        integer NOT NULL,
    state        text NOT NULL CHECK (state IN
        ('placed', 'preparing', 'running', 'stopping', 'succeeded', 'failed', 'cancelled', 'lost', 'rejected')),
    placed_at    timestamptz NOT NULL,
    started_at   timestamptz,
    finished_at  timestamptz,
    stop_cause   text,
    stop_sent_at timestamptz,
    cause        text CHECK (cause IN ('exit_code', 'signal', 'oom', 'timeout', 'image_pull', 'start_failed',
        'node_lost', 'cancelled', 'rejected')),
    exit_code    integer,
    message      text NOT NULL DEFAULT '',
    UNIQUE (task_id, number),
    CONSTRAINT finished_when_over CHECK
        ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled', 'lost', 'rejected')))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
-- Never two live attempts of one task.
CREATE UNIQUE INDEX attempts_one_live ON attempts (task_id)
    WHERE state IN ('placed', 'preparing', 'running', 'stopping');
CREATE INDEX attempts_live_by_node ON attempts (node_id)
    WHERE state IN ('placed', 'preparing', 'running', 'stopping');

CREATE TABLE events (
    txid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id     bigint GENERATED ALWAYS AS IDENTITY,
    at     timestamptz NOT NULL DEFAULT now(),
    job_id text COLLATE "C" NOT NULL,
    type   text NOT NULL,
    data   json,
    PRIMARY KEY (txid, id)
);
CREATE INDEX events_by_job ON events (job_id);

CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node_id    text COLLATE "C" NOT NULL,
    body       json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE nodes (
    id            text COLLATE "C" PRIMARY KEY,
    name          text NOT NULL,
    state         text NOT NULL CHECK (state IN ('ready', 'suspect', 'lost')),
    cordoned      boolean NOT NULL DEFAULT false,
    drivers       text[] NOT NULL,
    millis        integer NOT NULL,
    memory        bigint NOT NULL,
    version       text NOT NULL,
    labels        jsonb NOT NULL,
    facts         json NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE log_chunks (
    attempt_id text COLLATE "C" NOT NULL,
    stream     text NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    start      bigint NOT NULL,
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT now(),
    missing    bigint NOT NULL DEFAULT 0,
    data       bytea NOT NULL,
    PRIMARY KEY (attempt_id, stream, start)
);
ALTER TABLE log_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX log_chunks_by_arrival ON log_chunks (attempt_id, seq);
