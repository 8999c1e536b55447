"""Every statement that version 0.1 sends to the ledger, as it stood there. Never to be edited."""

# ruff: noqa: E501

STATEMENTS: dict[str, str] = {
    "apply.apply": """
WITH doc AS MATERIALIZED (SELECT %(doc)s::json AS d),
fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE),
asked AS MATERIALIZED (
    SELECT * FROM json_to_recordset((SELECT d -> 'tasks' FROM doc)) AS s (id text, base integer, leans boolean,
        state text, attempts integer, retries integer, infra_losses integer, cancel_requested boolean, reason text,
        queued_at float8, not_before float8, wake_at float8, finished_at float8, expire_at float8)
),
freeing AS (UPDATE tasks t SET
        state = s.state, version = t.version + 1, attempts = s.attempts, retries = s.retries,
        infra_losses = s.infra_losses, cancel_requested = s.cancel_requested, reason = s.reason,
        queued_at = to_timestamp(s.queued_at), not_before = to_timestamp(s.not_before),
        wake_at = to_timestamp(s.wake_at), finished_at = to_timestamp(s.finished_at),
        expire_at = to_timestamp(s.expire_at)
    FROM asked s
    WHERE t.id = s.id AND t.version = s.base AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
 AND NOT s.leans RETURNING t.id),
filling AS (UPDATE tasks t SET
        state = s.state, version = t.version + 1, attempts = s.attempts, retries = s.retries,
        infra_losses = s.infra_losses, cancel_requested = s.cancel_requested, reason = s.reason,
        queued_at = to_timestamp(s.queued_at), not_before = to_timestamp(s.not_before),
        wake_at = to_timestamp(s.wake_at), finished_at = to_timestamp(s.finished_at),
        expire_at = to_timestamp(s.expire_at)
    FROM asked s
    WHERE t.id = s.id AND t.version = s.base AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
 AND s.leans AND (SELECT count(*) FROM freeing) = (SELECT count(*) FROM asked WHERE NOT leans) RETURNING t.id),
moved AS (SELECT id FROM freeing UNION ALL SELECT id FROM filling),
tried AS (
    INSERT INTO attempts AS a (id, task_id, number, node_id, node_name, fence, shape, state, placed_at, started_at,
        finished_at, stop_cause, stop_sent_at, cause, exit_code, message)
    SELECT s.id, s.task_id, s.number, s.node_id, s.node_name, s.fence, s.shape, s.state, to_timestamp(s.placed_at),
        to_timestamp(s.started_at), to_timestamp(s.finished_at), s.stop_cause, to_timestamp(s.stop_sent_at), s.cause,
        s.exit_code, s.message
    FROM json_to_recordset((SELECT d -> 'attempts' FROM doc)) AS s (id text, task_id text, number integer,
        node_id text, node_name text, fence bigint, shape integer, state text, placed_at float8, started_at float8,
        finished_at float8, stop_cause text, stop_sent_at float8, cause text, exit_code integer, message text)
    JOIN moved ON moved.id = s.task_id
    ON CONFLICT (id) DO UPDATE SET
        state = excluded.state, started_at = excluded.started_at, finished_at = excluded.finished_at,
        stop_cause = excluded.stop_cause, stop_sent_at = excluded.stop_sent_at, cause = excluded.cause,
        exit_code = excluded.exit_code, message = excluded.message
),
told AS (
    INSERT INTO events (job_id, type, data)
    SELECT s.job_id, s.type, s.data
    FROM json_to_recordset((SELECT d -> 'events' FROM doc)) AS s (task_id text, job_id text, type text, data json)
    JOIN moved ON moved.id = s.task_id
),
ordered AS (
    INSERT INTO outbox (node_id, body)
    SELECT s.node_id, s.body
    FROM json_to_recordset((SELECT d -> 'outbox' FROM doc)) AS s (node_id text, body json)
    WHERE EXISTS (SELECT FROM moved)
    RETURNING id
),
cleared AS (
    DELETE FROM outbox WHERE id IN (SELECT value::bigint FROM json_array_elements_text((SELECT d -> 'sent' FROM doc)))
        AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
)
SELECT (SELECT array_agg(id) FROM moved), (SELECT array_agg(id) FROM ordered),
       (SELECT term FROM fence), extract(epoch FROM now())::float8
""",
    "events.after": """
SELECT txid::text, id, at, job_id, type, data FROM events
WHERE (txid, id) > (%(txid)s::text::xid8, %(row)s::bigint) AND txid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY events.txid, events.id LIMIT %(limit)s
""",
    "events.of_job": """
SELECT txid::text, id, at, job_id, type, data FROM events WHERE job_id = %(job_id)s
ORDER BY events.txid, events.id LIMIT %(limit)s
""",
    "events.now": """SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)::text""",
    "jobs.submit": """
WITH j AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(jobs)s::json) AS x (ord integer, id text, task text, name text, queue text,
        labels jsonb, spec json, priority integer, shape integer, key text, fingerprint text, retry_of text,
        wake_in float8)
), accepted AS (
    INSERT INTO jobs (id, name, queue, labels, spec, idempotency_key, fingerprint, retry_of)
    SELECT id, name, queue, labels, spec, key, fingerprint, retry_of FROM j
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), lined AS (
    INSERT INTO tasks (id, job_id, shape, priority, wake_at)
    SELECT task, id, shape, priority, now() + wake_in * interval '1 second' FROM j JOIN accepted USING (id) ORDER BY ord
), told AS (
    INSERT INTO events (job_id, type) SELECT id, 'job.submitted' FROM j JOIN accepted USING (id) ORDER BY ord
)
SELECT now(), array_agg(id) FROM accepted
""",
    "jobs.by_key": """SELECT idempotency_key, id, fingerprint FROM jobs WHERE idempotency_key = ANY(%(keys)s)""",
    "jobs.get": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE j.id = %(id)s""",
    "jobs.over": """SELECT state IN ('succeeded', 'failed', 'cancelled') FROM tasks WHERE id = %(id)s""",
    "jobs.attempts": """
SELECT task_id, id, number, node_name, state, exit_code, cause, message, placed_at, started_at, finished_at
FROM attempts WHERE task_id = ANY(%(tasks)s) ORDER BY task_id, number
""",
    "jobs.attempt_over": """
SELECT state IN ('succeeded', 'failed', 'cancelled', 'lost', 'rejected') FROM attempts WHERE id = %(id)s
""",
    "jobs.ahead": """
SELECT coalesce(sum(n), 0)::integer FROM shapes s CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM tasks t WHERE t.shape = s.id AND t.state = 'queued' AND (t.priority > %(priority)s
            OR t.priority = %(priority)s AND t.seq < %(seq)s) ORDER BY t.priority DESC, t.seq LIMIT 1000) h) c
""",
    "jobs.delete": """
WITH gone AS (
    DELETE FROM tasks WHERE job_id = ANY(%(ids)s) AND state IN ('succeeded', 'failed', 'cancelled')
    RETURNING id, job_id
), tries AS (
    DELETE FROM attempts WHERE task_id IN (SELECT id FROM gone) RETURNING id
), logs AS (
    DELETE FROM log_chunks WHERE attempt_id IN (SELECT id FROM tries)
), facts AS (
    DELETE FROM events WHERE job_id IN (SELECT job_id FROM gone)
), job AS (
    DELETE FROM jobs WHERE id IN (SELECT job_id FROM gone) RETURNING id
), told AS (
    INSERT INTO events (job_id, type) SELECT id, 'job.deleted' FROM job
)
SELECT id FROM job
""",
    "jobs.expired": """SELECT job_id FROM tasks WHERE expire_at <= now() ORDER BY expire_at LIMIT %(limit)s""",
    "leases.take": """
WITH won AS (
    INSERT INTO leases AS l (name, holder, term, since, expires_at)
    VALUES ('leader', %(holder)s, 1, now(), now() + %(ttl)s * interval '1 second')
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, term = l.term + 1, since = now(), expires_at = excluded.expires_at
    WHERE l.expires_at <= now()
    RETURNING l.term
)
SELECT term, CASE WHEN %(bell)s::boolean THEN pg_try_advisory_lock(%(key)s::bigint + term) END FROM won
""",
    "leases.renew": """
UPDATE leases SET expires_at = now() + %(ttl)s * interval '1 second'
WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s RETURNING term
""",
    "leases.resign": """UPDATE leases SET expires_at = now() WHERE name = 'leader' AND holder = %(holder)s AND term = %(term)s""",
    "leases.silent": """
SELECT CASE WHEN pg_try_advisory_lock(%(bell)s::bigint) THEN pg_advisory_unlock(%(bell)s::bigint) ELSE false END
""",
    "leases.put_down": """SELECT pg_advisory_unlock(%(bell)s::bigint)""",
    "leases.expire": """UPDATE leases SET expires_at = now() WHERE name = 'leader' AND term = %(term)s""",
    "leases.leader": """
SELECT holder, term, since, expires_at > now() FROM leases WHERE name = 'leader'
""",
    "logs.append": """
INSERT INTO log_chunks (attempt_id, stream, start, missing, data)
SELECT c.attempt_id, c.stream, c.start, c.missing, c.data
FROM unnest(%(attempts)s::text[], %(streams)s::text[], %(starts)s::bigint[], %(missing)s::bigint[], %(data)s::bytea[])
    WITH ORDINALITY AS c (attempt_id, stream, start, missing, data, ord)
WHERE EXISTS (SELECT FROM attempts a WHERE a.id = c.attempt_id)
ORDER BY c.ord ON CONFLICT DO NOTHING
""",
    "logs.read": """
SELECT seq, stream, start, at, missing, data FROM log_chunks
WHERE attempt_id = %(attempt_id)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
""",
    "logs.read_back": """
SELECT seq, stream, start, at, missing, data FROM log_chunks
WHERE attempt_id = %(attempt_id)s AND seq < %(before)s ORDER BY seq DESC LIMIT %(limit)s
""",
    "logs.stored": """
SELECT stream, max(start + missing + octet_length(data)) FROM log_chunks WHERE attempt_id = %(attempt_id)s GROUP BY 1
""",
    "nodes.upsert": """
INSERT INTO nodes (id, name, state, drivers, millis, memory, version, labels, facts)
SELECT %(id)s, %(name)s, %(state)s, %(drivers)s, %(millis)s, %(memory)s, %(version)s, %(labels)s, %(facts)s
WHERE EXISTS (SELECT FROM leases WHERE name = 'leader' AND term = %(term)s FOR SHARE)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, drivers = excluded.drivers,
    millis = excluded.millis, memory = excluded.memory, version = excluded.version, labels = excluded.labels,
    facts = excluded.facts, heartbeat_at = now()
""",
    "nodes.beat": """
UPDATE nodes SET heartbeat_at = now() WHERE id = ANY(%(ids)s)
    AND EXISTS (SELECT FROM leases WHERE name = 'leader' AND term = %(term)s FOR SHARE)
""",
    "nodes.set_state": """
UPDATE nodes SET state = %(state)s WHERE id = %(id)s
    AND EXISTS (SELECT FROM leases WHERE name = 'leader' AND term = %(term)s FOR SHARE)
""",
    "nodes.all": """
SELECT n.id, n.name, n.state, n.cordoned, n.drivers, n.millis, n.memory, n.version, n.labels, n.facts,
    n.registered_at, n.heartbeat_at, coalesce(u.millis, 0), coalesce(u.memory, 0), coalesce(u.attempts, 0)
FROM nodes n LEFT JOIN (
    SELECT a.node_id, sum(s.millis)::bigint AS millis, sum(s.memory)::bigint AS memory, count(*) AS attempts
    FROM attempts a JOIN shapes s ON s.id = a.shape
    WHERE a.state IN ('placed', 'preparing', 'running', 'stopping') GROUP BY a.node_id
) u ON u.node_id = n.id
ORDER BY n.name, n.id
""",
    "outbox.stale": """
SELECT id, node_id, body, now() - created_at > interval '5 seconds' FROM outbox
WHERE created_at <= now() - %(age)s * interval '1 second' ORDER BY id LIMIT %(limit)s
""",
    "outbox.clear": """DELETE FROM outbox WHERE id = ANY(%(ids)s)""",
    "shapes.intern": """
WITH wanted AS (
    SELECT DISTINCT * FROM unnest(%(drivers)s::text[], %(millis)s::integer[], %(memory)s::bigint[])
        AS w (driver, millis, memory)
), made AS (
    INSERT INTO shapes (driver, millis, memory) SELECT driver, millis, memory FROM wanted
    ON CONFLICT DO NOTHING RETURNING id, driver, millis, memory
)
SELECT id, driver, millis, memory FROM made
UNION SELECT s.id, s.driver, s.millis, s.memory FROM shapes s JOIN wanted USING (driver, millis, memory)
""",
    "shapes.all": """SELECT id, driver, millis, memory FROM shapes""",
    "tasks.heads": """
SELECT s.driver, s.millis, s.memory, t.priority, t.seq, t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.cancel_requested,
    extract(epoch FROM t.not_before)::float8, extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, extract(epoch FROM now())::float8
FROM shapes s
LEFT JOIN unnest(%(shapes)s::integer[], %(limits)s::integer[]) AS l (shape, n) ON l.shape = s.id
CROSS JOIN LATERAL (
    SELECT * FROM tasks h WHERE h.shape = s.id AND h.state = 'queued'
    ORDER BY h.priority DESC, h.seq LIMIT coalesce(l.n, 8)
) t
JOIN jobs j ON j.id = t.job_id
""",
    "tasks.by_id": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.cancel_requested,
    extract(epoch FROM t.not_before)::float8, extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message
FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN attempts a ON a.task_id = t.id AND a.number = t.attempts
WHERE t.id = ANY(%(ids)s)""",
    "tasks.by_attempt": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.cancel_requested,
    extract(epoch FROM t.not_before)::float8, extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id WHERE a.id = ANY(%(ids)s)
""",
    "tasks.all_live": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.cancel_requested,
    extract(epoch FROM t.not_before)::float8, extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.state IN ('placed', 'preparing', 'running', 'stopping')
""",
    "tasks.due": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.cancel_requested,
    extract(epoch FROM t.not_before)::float8, extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message
FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN attempts a ON a.task_id = t.id AND a.number = t.attempts
WHERE t.wake_at <= now() ORDER BY t.wake_at LIMIT %(limit)s""",
    "tasks.next_due": """SELECT extract(epoch FROM min(wake_at) - now())::float8 FROM tasks WHERE wake_at IS NOT NULL""",
    "tasks.clock": """SELECT extract(epoch FROM clock_timestamp())::float8""",
    "jobs.page": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE j.id < %(cursor)s AND t.job_id < %(cursor)s ORDER BY t.job_id DESC LIMIT %(limit)s""",
}
