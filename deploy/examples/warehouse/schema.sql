-- The warehouse's tables, and how events get into them. Can be run again at any time:
--
--   createdb warehouse && psql -d warehouse -f schema.sql
--
-- warehouse.py calls take() and nothing else. Each event that take() inserts is applied to the other
-- tables by a trigger, in the same transaction and in the order of arrival: marathon.sql and nomad.sql
-- say how. queries.sql has the views to ask.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
BEGIN;

-- How far each partition of Kafka was taken: moved in the transaction that inserts the events.
CREATE TABLE IF NOT EXISTS progress (
    kafka_topic text NOT NULL,
    part        int NOT NULL,
    next_offset bigint NOT NULL,
    moved       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_topic, part)
);

-- Everything, as it was told. `time` is the source's own where it tells one (Marathon), else when
-- Busbar heard of it (Nomad).
CREATE TABLE IF NOT EXISTS events (
    id           text PRIMARY KEY, -- ce_id: the same event has the same one, wherever it was read
    source       text NOT NULL,
    topic        text NOT NULL,
    type         text NOT NULL,
    key          text NOT NULL,
    namespace    text NOT NULL,
    index        bigint NOT NULL,  -- Nomad: of the Raft log; Marathon: the time in milliseconds
    time         timestamptz NOT NULL,
    body         jsonb NOT NULL,
    kafka_topic  text NOT NULL,
    part         int NOT NULL,
    kafka_offset bigint NOT NULL,
    seq          bigint GENERATED ALWAYS AS IDENTITY -- the order of arrival, here
);
CREATE INDEX IF NOT EXISTS events_by_time ON events (source, time);

CREATE TABLE IF NOT EXISTS deployments (
    source    text NOT NULL,
    id        text NOT NULL,
    namespace text NOT NULL,
    apps      text[] NOT NULL, -- Marathon: apps and pods; Nomad: the job
    began     timestamptz,     -- null: it ran already when it was first heard of, or was refused at once
    ended     timestamptz,
    outcome   text CHECK (outcome IN ('successful', 'failed', 'cancelled', 'unknown')), -- null: under way
    reason    text,
    PRIMARY KEY (source, id)
);

-- One start of one task to its end: a Marathon task, or one of the starts of a task of a Nomad
-- allocation (id: ALLOCATION/TASK/RESTARTS BEFORE IT).
CREATE TABLE IF NOT EXISTS task_runs (
    source    text NOT NULL,
    id        text NOT NULL,
    namespace text NOT NULL,
    app       text NOT NULL,   -- Marathon: app or pod; Nomad: job
    instance  text NOT NULL,   -- what keeps its health: Marathon's instance, Nomad's allocation
    host      text,
    began     timestamptz,     -- the first that was heard of it (Nomad: placed); null: only its end was
    running   timestamptz,
    healthy   timestamptz,     -- for the first time
    ended     timestamptz,
    outcome   text CHECK (outcome IN ('finished', 'failed', 'killed', 'unhealthy', 'lost', 'unknown')), -- null: goes on
    restarted boolean NOT NULL DEFAULT false, -- ended by itself, and was started anew
    given_up  boolean NOT NULL DEFAULT false, -- Marathon kills it because it is unhealthy
    state     text,            -- the orchestrator's own word
    message   text,
    exit_code int,
    PRIMARY KEY (source, id)
);
CREATE INDEX IF NOT EXISTS task_runs_by_instance ON task_runs (source, instance);
CREATE INDEX IF NOT EXISTS task_runs_open ON task_runs (source, app) WHERE outcome IS NULL;

-- An instance's health, each time that it changes; 'ended' where the instance or its run did.
CREATE TABLE IF NOT EXISTS health_changes (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source   text NOT NULL,
    app      text NOT NULL,
    instance text NOT NULL,
    at       timestamptz NOT NULL,
    state    text NOT NULL CHECK (state IN ('healthy', 'unhealthy', 'check failed', 'ended'))
);
CREATE INDEX IF NOT EXISTS health_changes_by_instance ON health_changes (source, instance, seq);

-- What is not in here, or may not be.
CREATE TABLE IF NOT EXISTS missing (
    source text,        -- null: of whichever source
    kind   text NOT NULL, -- Gap, Malformed, Rejected: Busbar said so. Expired, Refused: warehouse.py did
    began  timestamptz NOT NULL,
    ended  timestamptz NOT NULL,
    reason text NOT NULL,
    event  text,        -- its id, where it is in events
    bytes  bytea        -- of what PostgreSQL refused
);

-- True: all of it is committed with the caller's transaction. False: nothing was done, because
-- somebody else has moved on from `from_offset`.
CREATE OR REPLACE FUNCTION take(
    kafka_topic_ text, part_ int, from_offset bigint, to_offset bigint, offsets bigint[], ids text[],
    sources text[], topics text[], types text[], keys text[], namespaces text[], indexes bigint[], times timestamptz[],
    bodies text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE progress SET next_offset = to_offset, moved = now()
    WHERE kafka_topic = kafka_topic_ AND part = part_ AND next_offset = from_offset;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO events (id, source, topic, type, key, namespace, index, time, body, kafka_topic, part, kafka_offset)
    SELECT
        t.id, t.source, t.topic, t.type, t.key, t.namespace, t.index, t.time, t.body::jsonb, kafka_topic_, part_, t.at
    FROM unnest(offsets, ids, sources, topics, types, keys, namespaces, indexes, times, bodies) WITH ORDINALITY
        AS t (at, id, source, topic, type, key, namespace, index, time, body, nth)
    ORDER BY t.nth
    ON CONFLICT (id) DO NOTHING; -- and no trigger either
    RETURN true;
END $$;

-- The same for what can't be had: from_offset to to_offset is passed over, and that is written down.
CREATE OR REPLACE FUNCTION pass_over(
    kafka_topic_ text, part_ int, from_offset bigint, to_offset bigint, source_ text, kind_ text, time_ timestamptz,
    reason_ text, bytes_ bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz;
BEGIN
    UPDATE progress SET next_offset = to_offset
    WHERE kafka_topic = kafka_topic_ AND part = part_ AND next_offset = from_offset RETURNING moved INTO since;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO missing (source, kind, began, ended, reason, bytes)
    VALUES (source_, kind_, coalesce(time_, since), coalesce(time_, now()), reason_, bytes_);
    RETURN true;
END $$;

-- RFC 3339; null where it is something else.
CREATE OR REPLACE FUNCTION time_of(text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN $1 ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d' THEN $1::timestamptz END
$$;

-- Of Busbar itself. A gap begins where the last was heard before it: a Marathon's index is that time
-- (no Nomad's index gets as far), for a Nomad it is that of the event before.
CREATE OR REPLACE FUNCTION apply_busbar(e events) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := e.time;
    told  jsonb := e.body->'Payload';
BEGIN
    IF e.type NOT IN ('Gap', 'Malformed', 'Rejected') THEN
        RETURN;
    END IF;
    IF e.type = 'Gap' AND (told->>'From')::numeric > 1e12 THEN
        since := least(to_timestamp((told->>'From')::numeric / 1000.0), e.time);
    ELSIF e.type = 'Gap' THEN
        SELECT coalesce(max(b.time), e.time) INTO since FROM events b
        WHERE b.source = e.source AND b.time < e.time AND b.topic <> 'Busbar';
    END IF;
    INSERT INTO missing (source, kind, began, ended, reason, event)
    VALUES (e.source, e.type, since, e.time, coalesce(told->>'Reason', ''), e.id);
END $$;

-- It is no more, and what became of it was not told.
CREATE OR REPLACE FUNCTION apply_vanished(e events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.topic = 'Deployment' THEN
        UPDATE deployments SET outcome = 'unknown', ended = e.time
        WHERE source = e.source AND id = e.key AND outcome IS NULL;
    ELSIF e.topic = 'Allocation' THEN
        UPDATE task_runs SET outcome = 'unknown', ended = e.time
        WHERE source = e.source AND instance = e.key AND outcome IS NULL;
        PERFORM note_health(e.source, '', e.key, e.time, 'ended', false);
    ELSIF e.topic IN ('App', 'Pod') THEN
        PERFORM lose_runs(e, '{}');
    END IF;
END $$;

-- All runs of an app that go on, as far as anybody told, but for those of these instances.
CREATE OR REPLACE FUNCTION lose_runs(e events, kept text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_health(source, app, instance, e.time, 'ended', false) FROM task_runs
    WHERE source = e.source AND app = e.key AND outcome IS NULL AND NOT instance = ANY (kept);
    UPDATE task_runs SET outcome = 'unknown', ended = e.time
    WHERE source = e.source AND app = e.key AND outcome IS NULL AND NOT instance = ANY (kept);
END $$;

-- Where it is a change. only_newer: the same is told again and again, with the time when it began.
CREATE OR REPLACE FUNCTION note_health(
    source_ text, app_ text, instance_ text, at_ timestamptz, state_ text, only_newer boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last health_changes;
BEGIN
    SELECT * INTO last FROM health_changes
    WHERE source = source_ AND instance = instance_ AND state <> 'check failed' ORDER BY seq DESC LIMIT 1;
    IF last.state = state_ OR (only_newer AND last.at >= at_) OR (last.state IS NULL AND state_ = 'ended') THEN
        RETURN;
    END IF;
    INSERT INTO health_changes (source, app, instance, at, state)
    VALUES (source_, coalesce(nullif(app_, ''), last.app), instance_, at_, state_);
END $$;

\ir marathon.sql
\ir nomad.sql

CREATE OR REPLACE FUNCTION apply(e events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.topic = 'Busbar' THEN
        PERFORM apply_busbar(e);
    ELSIF e.type IN ('Vanished', 'Deleted') THEN
        PERFORM apply_vanished(e);
    ELSIF e.body ? 'eventType' THEN
        PERFORM apply_marathon(e);
    ELSIF e.topic = 'Deployment' THEN
        PERFORM apply_nomad_deployment(e, e.body #> '{Payload,Deployment}');
    ELSIF e.topic = 'Allocation' THEN
        PERFORM apply_nomad_allocation(e, e.body #> '{Payload,Allocation}');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION apply_new_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM apply(NEW);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER apply AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION apply_new_event();

-- After a change of marathon.sql or nomad.sql: all that follows from the events, anew.
CREATE OR REPLACE FUNCTION rebuild() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e events;
BEGIN
    LOCK TABLE progress; -- take() waits
    DELETE FROM deployments;
    DELETE FROM task_runs;
    DELETE FROM health_changes;
    DELETE FROM missing WHERE event IS NOT NULL;
    FOR e IN SELECT * FROM events ORDER BY seq LOOP
        PERFORM apply(e);
    END LOOP;
END $$;

\ir queries.sql
COMMIT;
