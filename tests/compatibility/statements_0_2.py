"""Every statement that version 0.2 sends to the ledger, as it stood there. Never to be edited."""

# ruff: noqa: E501

STATEMENTS: dict[str, str] = {
    "apply.apply": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE),
doc AS MATERIALIZED (SELECT %(doc)s::json AS d),
asked AS MATERIALIZED (
    SELECT * FROM json_to_recordset((SELECT d -> 'tasks' FROM doc)) AS s (id text, base integer, leans boolean,
        state text, attempts integer, retries integer, infra_losses integer, node_losses integer, refusals integer,
        cancel_requested boolean, reason text, queued_at float8, not_before float8, wake_at float8,
        finished_at float8, expire_at float8)
),
freeing AS (UPDATE tasks t SET
        state = s.state, version = t.version + 1, attempts = s.attempts, retries = s.retries,
        infra_losses = s.infra_losses, node_losses = s.node_losses, refusals = s.refusals,
        cancel_requested = s.cancel_requested, reason = s.reason,
        queued_at = to_timestamp(s.queued_at), not_before = to_timestamp(s.not_before),
        wake_at = to_timestamp(s.wake_at), finished_at = to_timestamp(s.finished_at),
        expire_at = to_timestamp(s.expire_at)
    FROM asked s
    WHERE t.id = s.id AND t.version = s.base AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
 AND NOT s.leans RETURNING t.id),
filling AS (UPDATE tasks t SET
        state = s.state, version = t.version + 1, attempts = s.attempts, retries = s.retries,
        infra_losses = s.infra_losses, node_losses = s.node_losses, refusals = s.refusals,
        cancel_requested = s.cancel_requested, reason = s.reason,
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
SELECT (SELECT term FROM fence), (SELECT array_agg(id) FROM moved), (SELECT array_agg(id) FROM ordered),
       extract(epoch FROM now())::float8
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
    "inbox.put": """
WITH old AS (DELETE FROM inbox WHERE created_at < now() - interval '1 minute')
INSERT INTO inbox (body) VALUES (%(body)s)
""",
    "inbox.take": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), taken AS (
    UPDATE inbox SET taken = taken + 1
    WHERE EXISTS (SELECT FROM fence) AND id IN (
        (SELECT id FROM inbox WHERE taken < %(suspect)s ORDER BY id LIMIT %(limit)s)
        UNION ALL (SELECT id FROM inbox WHERE taken >= %(suspect)s ORDER BY id LIMIT 1))
    RETURNING id, body, taken
)
SELECT (SELECT term FROM fence), (SELECT array_agg(id ORDER BY id) FROM taken),
    (SELECT array_agg(body ORDER BY id) FROM taken), (SELECT array_agg(taken ORDER BY id) FROM taken)
""",
    "inbox.clear": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), cleared AS (
    DELETE FROM inbox WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
""",
    "jobs.submit": """
WITH j AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(jobs)s::json) AS x (ord integer, id text, task text, name text, queue text,
        labels jsonb, spec json, priority integer, shape integer, key text, fingerprint text, retry_of text,
        queue_in float8, deadline_in float8, start_at float8, start_in float8)
), accepted AS (
    INSERT INTO jobs (id, name, queue, labels, spec, idempotency_key, fingerprint, retry_of)
    SELECT id, name, queue, labels, spec, key, fingerprint, retry_of FROM j
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), lined AS (
    INSERT INTO tasks (id, job_id, shape, priority, state, not_before, reason, wake_at)
    SELECT task, id, shape, priority, CASE WHEN start > now() THEN 'backoff' ELSE 'queued' END,
        CASE WHEN start > now() THEN start END,
        CASE WHEN start > now() THEN to_char(start AT TIME ZONE 'UTC', '"starts at "YYYY-MM-DD"T"HH24:MI:SS"Z"') END,
        CASE WHEN start > now() THEN least(start, now() + deadline_in * interval '1 second')
            ELSE now() + least(queue_in, deadline_in) * interval '1 second' END
    FROM (SELECT *, coalesce(to_timestamp(start_at), now() + start_in * interval '1 second') AS start FROM j) j
    JOIN accepted USING (id) ORDER BY ord
), told AS (
    INSERT INTO events (job_id, type) SELECT id, 'job.submitted' FROM j JOIN accepted USING (id) ORDER BY ord
)
SELECT now(), array_agg(id) FROM accepted
""",
    "jobs.found": """SELECT array_agg(id), max(created_at) FROM jobs WHERE id = ANY(%(ids)s)""",
    "jobs.by_key": """SELECT idempotency_key, id, fingerprint FROM jobs WHERE idempotency_key = ANY(%(keys)s)""",
    "jobs.get": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE j.id = %(id)s""",
    "jobs.over": """SELECT state IN ('succeeded', 'failed', 'cancelled') FROM tasks WHERE id = %(id)s""",
    "jobs.attempts": """
SELECT task_id, id, number, node_name, state, exit_code, cause, message, late, placed_at, started_at, finished_at
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
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), gone AS (
    DELETE FROM tasks WHERE job_id = ANY(%(ids)s) AND state IN ('succeeded', 'failed', 'cancelled')
        AND (%(term)s::bigint IS NULL OR EXISTS (SELECT FROM fence))
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
SELECT (SELECT term FROM fence), (SELECT array_agg(id) FROM job)
""",
    "jobs.expired": """
SELECT job_id FROM tasks WHERE expire_at <= coalesce(to_timestamp(%(now)s), now()) ORDER BY expire_at LIMIT %(limit)s
""",
    "late.note_late": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE),
asked AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(notes)s::json) AS s (id text, job_id text, late text, data json)
),
noted AS (
    UPDATE attempts a SET late = s.late FROM asked s
    WHERE a.id = s.id AND a.late IS NULL AND a.state = 'lost' AND EXISTS (SELECT FROM fence) RETURNING a.id
),
told AS (
    INSERT INTO events (job_id, type, data)
    SELECT s.job_id, 'job.late_report', s.data FROM asked s JOIN noted USING (id)
)
SELECT (SELECT term FROM fence), (SELECT count(*) FROM noted)
""",
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
    "leases.expire": """
UPDATE leases SET expires_at = now() WHERE name = 'leader' AND term = %(term)s
    AND (%(seen)s::timestamptz IS NULL OR expires_at = %(seen)s)
""",
    "leases.leader": """
SELECT holder, term, since, expires_at, expires_at > now() FROM leases WHERE name = 'leader'
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
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), written AS (
INSERT INTO nodes (id, name, state, drivers, millis, memory, version, labels, facts, leaving)
SELECT %(id)s, %(name)s, %(state)s, %(drivers)s, %(millis)s, %(memory)s, %(version)s, %(labels)s, %(facts)s,
    %(leaving)s
WHERE EXISTS (SELECT FROM fence)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state, drivers = excluded.drivers,
    millis = excluded.millis, memory = excluded.memory, version = excluded.version, labels = excluded.labels,
    facts = excluded.facts, leaving = excluded.leaving, heartbeat_at = now()
) SELECT (SELECT term FROM fence)
""",
    "nodes.beat": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), written AS (
    UPDATE nodes SET heartbeat_at = now() WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
""",
    "nodes.set_state": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), written AS (
    UPDATE nodes SET state = %(state)s WHERE id = %(id)s AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
""",
    "nodes.cordon": """
UPDATE nodes SET cordoned = true WHERE id = %(id)s
""",
    "nodes.uncordon": """
UPDATE nodes SET cordoned = false, draining = false, drain_until = NULL WHERE id = %(id)s
""",
    "nodes.drain": """
UPDATE nodes SET cordoned = true, draining = true, drain_until = now() + %(within)s::float8 * interval '1 second'
WHERE id = %(id)s
""",
    "nodes.forget": """DELETE FROM nodes WHERE id = %(id)s AND state = 'lost' RETURNING id""",
    "nodes.wanted": """SELECT id, cordoned, draining, draining AND drain_until <= now() FROM nodes""",
    "nodes.stranded": """
SELECT n.name FROM attempts a JOIN nodes n ON n.id = a.node_id WHERE a.task_id = %(task)s
    AND a.state IN ('placed', 'preparing', 'running', 'stopping') AND n.state = 'lost'
""",
    "nodes.state_of": """SELECT state FROM nodes WHERE id = %(id)s""",
    "nodes.all": """
SELECT n.id, n.name, n.state, n.cordoned, n.drivers, n.millis, n.memory, n.version, n.labels, n.facts,
    n.registered_at, n.heartbeat_at, n.draining, n.drain_until, n.leaving,
    coalesce(u.millis, 0), coalesce(u.memory, 0), coalesce(u.attempts, 0)
FROM nodes n LEFT JOIN (
    SELECT a.node_id, sum(s.millis)::bigint AS millis, sum(s.memory)::bigint AS memory, count(*) AS attempts
    FROM attempts a JOIN shapes s ON s.id = a.shape
    WHERE a.state IN ('placed', 'preparing', 'running', 'stopping') GROUP BY a.node_id
) u ON u.node_id = n.id
ORDER BY n.name, n.id
""",
    "outbox.stale": """
SELECT id, node_id, body FROM outbox
WHERE created_at <= now() - %(age)s * interval '1 second' ORDER BY id LIMIT %(limit)s
""",
    "outbox.clear": """
WITH fence AS MATERIALIZED (SELECT term FROM leases WHERE name = 'leader' AND term = %(term)s::bigint FOR SHARE), cleared AS (
    DELETE FROM outbox WHERE id = ANY(%(ids)s) AND EXISTS (SELECT FROM fence)
) SELECT (SELECT term FROM fence)
""",
    "schedulers.seen": """
WITH forgotten AS (DELETE FROM schedulers WHERE seen_at < now() - interval '1 hour' AND id <> %(id)s)
INSERT INTO schedulers AS s (id, host, pid, version, redis_degraded_since)
VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, CASE WHEN %(degraded)s::boolean THEN now() END)
ON CONFLICT (id) DO UPDATE SET seen_at = now(),
    redis_degraded_since = CASE WHEN %(degraded)s::boolean THEN coalesce(s.redis_degraded_since, now()) END
""",
    "schedulers.gone": """DELETE FROM schedulers WHERE id = %(id)s""",
    "schedulers.living": """
SELECT s.id, s.host, s.pid, s.version, s.started_at, s.seen_at, s.redis_degraded_since, l.term, l.since
FROM schedulers s LEFT JOIN leases l ON l.name = 'leader' AND l.holder = s.id AND l.expires_at > now()
WHERE s.seen_at > now() - interval '5 seconds' OR l.term IS NOT NULL
ORDER BY l.term NULLS LAST, s.started_at, s.id
""",
    "schedulers.nodes": """SELECT state, count(*) FROM nodes GROUP BY state""",
    "schedulers.work": """
SELECT (SELECT count(*) FROM (SELECT FROM tasks WHERE state IN ('queued', 'backoff') AND finished_at IS NULL
            LIMIT %(most)s) q),
    (SELECT count(*) FROM (SELECT FROM attempts WHERE state IN ('placed', 'preparing', 'running', 'stopping')
            LIMIT %(most)s) r)
""",
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
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, extract(epoch FROM now())::float8
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
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late
FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN attempts a ON a.task_id = t.id AND a.number = t.attempts
WHERE t.id = ANY(%(ids)s)""",
    "tasks.by_attempt": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id WHERE a.id = ANY(%(ids)s)
""",
    "tasks.all_live": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.state IN ('placed', 'preparing', 'running', 'stopping')
""",
    "tasks.live_on_node": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late, extract(epoch FROM now())::float8
FROM attempts a JOIN tasks t ON t.id = a.task_id JOIN jobs j ON j.id = t.job_id
WHERE a.state IN ('placed', 'preparing', 'running', 'stopping') AND a.node_id = %(node_id)s
""",
    "tasks.due": """
SELECT t.id, t.job_id, t.shape, t.state, t.version, extract(epoch FROM t.created_at)::float8,
    extract(epoch FROM t.queued_at)::float8, t.attempts, t.retries, t.infra_losses, t.node_losses,
    t.refusals, t.cancel_requested, extract(epoch FROM t.not_before)::float8,
    extract(epoch FROM t.finished_at)::float8, t.reason, j.spec::text, a.id, a.number, a.node_id, a.node_name, a.fence, a.state, extract(epoch FROM a.placed_at)::float8,
    extract(epoch FROM a.started_at)::float8, extract(epoch FROM a.finished_at)::float8, a.stop_cause,
    extract(epoch FROM a.stop_sent_at)::float8, a.cause, a.exit_code, a.message, a.late
FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN attempts a ON a.task_id = t.id AND a.number = t.attempts
WHERE t.wake_at <= coalesce(to_timestamp(%(now)s), now()) ORDER BY t.wake_at LIMIT %(limit)s""",
    "tasks.next_due": """
SELECT extract(epoch FROM min(wake_at) - coalesce(to_timestamp(%(now)s), now()))::float8
FROM tasks WHERE wake_at IS NOT NULL
""",
    "tasks.clock": """SELECT extract(epoch FROM clock_timestamp())::float8""",
    "jobs.page": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE j.id < %(cursor)s AND t.job_id < %(cursor)s ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_of_some": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE j.labels @> %(labels)s::jsonb AND j.labels <> '{}'::jsonb AND j.queue = %(queue)s AND j.queue <> 'default' AND j.name = %(name)s ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_held": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'held' AND t.finished_at IS NULL ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_blocked": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'blocked' AND t.finished_at IS NULL ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_queued": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state IN ('queued', 'backoff') AND t.finished_at IS NULL ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_running": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'active' AND t.finished_at IS NULL ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_succeeded": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'succeeded' ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_failed": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'failed' AND t.state IN ('failed', 'cancelled') ORDER BY t.job_id DESC LIMIT %(limit)s""",
    "jobs.page_cancelled": """
SELECT j.id, j.name, j.queue, j.labels::text, j.spec::text, j.retry_of, j.created_at, t.id, t.state, t.priority, t.seq,
    t.shape, t.retries, t.infra_losses, t.cancel_requested, t.reason, t.not_before, t.finished_at, t.version
FROM jobs j JOIN tasks t ON t.job_id = j.id
WHERE t.state = 'cancelled' AND t.state IN ('failed', 'cancelled') ORDER BY t.job_id DESC LIMIT %(limit)s""",
}
