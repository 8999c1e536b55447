-- Who may do what: tokens, and a record of every change somebody made.

CREATE TABLE tokens (
    id           text COLLATE "C" PRIMARY KEY,
    -- SHA-256 of the token, which itself is nowhere
    hash         bytea NOT NULL UNIQUE,
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('viewer', 'submitter', 'operator', 'admin', 'node', 'join')),
    -- of a node's token: whose it is
    node_id      text COLLATE "C",
    -- of a join token: how many more nodes may join with it (null: any number)
    uses_left    integer CHECK (uses_left >= 0),
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    -- to about a minute
    last_used_at timestamptz
);
-- A node has one token that counts.
CREATE UNIQUE INDEX tokens_one_per_node ON tokens (node_id) WHERE node_id IS NOT NULL AND revoked_at IS NULL;

CREATE TABLE audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    -- null: nobody's token, for the API asks for none, or it was that of a file
    token_id   text COLLATE "C",
    who        text NOT NULL,
    role       text NOT NULL,
    request_id text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    detail     json
);
