-- The place in a trace (W3C Trace Context) a job was submitted from: its attempts go on from there. Null: none.
ALTER TABLE jobs
    ADD COLUMN traceparent text,
    ADD COLUMN tracestate text;
