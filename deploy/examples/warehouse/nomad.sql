-- What a Nomad's events say about deployments, runs and health. Part of schema.sql.

CREATE OR REPLACE FUNCTION nanoseconds(value jsonb) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN (value #>> '{}')::numeric > 0
        THEN to_timestamp(0) + (value #>> '{}')::numeric / 1000 * interval '1 microsecond'
    END
$$;

-- Older Nomads tell no times of a deployment: then it is when the event came; and of one that a
-- snapshot tells as over already, nobody knows.
CREATE OR REPLACE FUNCTION apply_nomad_deployment(e events, d jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_known boolean := EXISTS (SELECT FROM deployments WHERE source = e.source AND id = e.key);
    over     text := CASE WHEN d->>'Status' IN ('successful', 'failed', 'cancelled') THEN d->>'Status' END;
    heard    timestamptz := CASE WHEN e.type <> 'Snapshot' OR (is_known AND over IS NOT NULL) THEN e.time END;
BEGIN
    IF d IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO deployments AS known (source, id, namespace, apps, began, ended, outcome, reason)
    VALUES (
        e.source, e.key, e.namespace, ARRAY[d->>'JobID'],
        coalesce(nanoseconds(d->'CreateTime'), CASE WHEN over IS NULL THEN heard END),
        CASE WHEN over IS NOT NULL THEN coalesce(nanoseconds(d->'ModifyTime'), heard) END, over,
        d->>'StatusDescription')
    ON CONFLICT (source, id) DO UPDATE SET ended = EXCLUDED.ended, outcome = over, reason = EXCLUDED.reason
    WHERE known.outcome IS NULL OR known.outcome = 'unknown';
END $$;

-- An allocation tells all that it knows each time: of each task how often it was started anew, and the
-- last ten things that happened to it. Between two 'Restarting' of these lies one run.
CREATE OR REPLACE FUNCTION apply_nomad_allocation(e events, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    task       text;
    state      jsonb;
    states     jsonb := CASE jsonb_typeof(a->'TaskStates') WHEN 'object' THEN a->'TaskStates' ELSE '{}' END;
    is_healthy boolean := (a #>> '{DeploymentStatus,Healthy}')::boolean;
    since      timestamptz := time_of(a #>> '{DeploymentStatus,Timestamp}');
BEGIN
    IF a IS NULL THEN
        RETURN;
    END IF;
    FOR task, state IN SELECT * FROM jsonb_each(states) LOOP
        PERFORM nomad_task(e, a, task, state);
    END LOOP;
    IF is_healthy IS NOT NULL AND since IS NOT NULL THEN
        PERFORM note_health(
            e.source, a->>'JobID', e.key, since, CASE WHEN is_healthy THEN 'healthy' ELSE 'unhealthy' END, true);
    END IF;
    IF is_healthy THEN
        UPDATE task_runs SET healthy = since
        WHERE source = e.source AND instance = e.key AND healthy IS NULL
            AND began <= since AND (ended IS NULL OR ended >= since);
    END IF;
    IF a->>'ClientStatus' IN ('complete', 'failed', 'lost') THEN
        PERFORM nomad_end(e, a);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION nomad_task(e events, a jsonb, task text, state jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    happened  jsonb := CASE jsonb_typeof(state->'Events') WHEN 'array' THEN state->'Events' ELSE '[]' END;
    restarts  int := coalesce((state->>'Restarts')::int, 0);
    number    int := restarts - jsonb_array_length(jsonb_path_query_array(happened, '$[*] ? (@.Type == "Restarting")'));
    one       jsonb;
    at        timestamptz;
    run       task_runs;
    is_killed boolean := false;
BEGIN
    -- Older ones than the ten may be missing: save_run() keeps what was known of them.
    run := nomad_run(e, a, task, number, CASE WHEN number = 0 THEN nanoseconds(a->'CreateTime') END);
    FOR one IN SELECT jsonb_array_elements(happened) LOOP
        at := nanoseconds(one->'Time');
        CASE one->>'Type'
        WHEN 'Started' THEN
            run.running := at;
        WHEN 'Killing' THEN
            is_killed := true;
        WHEN 'Restart Signaled' THEN -- by an operator, a template, or a check that failed
            is_killed := true;
            run.given_up := coalesce(one->>'DisplayMessage', '') ~* 'unhealthy';
        WHEN 'Terminated' THEN
            run.ended := at;
            run.exit_code := (one->>'ExitCode')::int;
            run.outcome := CASE
                WHEN run.given_up THEN 'unhealthy' WHEN is_killed THEN 'killed'
                WHEN run.exit_code = 0 AND coalesce((one->>'Signal')::int, 0) = 0 THEN 'finished' ELSE 'failed' END;
            run.message := one->>'DisplayMessage';
        WHEN 'Restarting' THEN
            run.ended := coalesce(run.ended, at); -- else it was never running
            run.outcome := coalesce(run.outcome, CASE WHEN is_killed THEN 'killed' ELSE 'failed' END);
            run.restarted := run.outcome <> 'killed';
            run.state := 'dead';
            PERFORM save_run(run);
            number := number + 1;
            run := nomad_run(e, a, task, number, at);
            is_killed := false;
        ELSE NULL;
        END CASE;
    END LOOP;
    run.state := CASE WHEN run.outcome IS NULL THEN state->>'State' ELSE 'dead' END;
    IF run.state = 'dead' AND run.outcome IS NULL THEN
        run.ended := coalesce(time_of(state->>'FinishedAt'), at, e.time);
        run.outcome := CASE
            WHEN (state->>'Failed')::boolean THEN 'failed' WHEN is_killed THEN 'killed' ELSE 'finished' END;
        run.message := (happened->-1)->>'DisplayMessage';
    END IF;
    IF run.outcome IS NULL AND a->>'ClientStatus' = 'lost' THEN -- with its node, which could not say more
        run.ended := coalesce(nanoseconds(a->'ModifyTime'), e.time);
        run.outcome := 'lost';
    END IF;
    PERFORM save_run(run);
END $$;

CREATE OR REPLACE FUNCTION nomad_run(e events, a jsonb, task text, number int, began_ timestamptz)
RETURNS task_runs LANGUAGE plpgsql AS $$
DECLARE
    run task_runs;
BEGIN
    run.source := e.source;
    run.id := e.key || '/' || task || '/' || number;
    run.namespace := e.namespace;
    run.app := a->>'JobID';
    run.instance := e.key;
    run.host := coalesce(nullif(a->>'NodeName', ''), a->>'NodeID');
    run.began := began_;
    run.restarted := false;
    run.given_up := false;
    RETURN run;
END $$;

CREATE OR REPLACE FUNCTION save_run(run task_runs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_runs AS r SELECT run.*
    ON CONFLICT (source, id) DO UPDATE SET
        began = coalesce(r.began, EXCLUDED.began), running = coalesce(r.running, EXCLUDED.running),
        ended = EXCLUDED.ended, outcome = EXCLUDED.outcome, restarted = r.restarted OR EXCLUDED.restarted,
        given_up = r.given_up OR EXCLUDED.given_up, state = EXCLUDED.state,
        message = coalesce(EXCLUDED.message, r.message), exit_code = coalesce(EXCLUDED.exit_code, r.exit_code)
    WHERE (r.outcome IS NULL
            AND (r.running, r.state, NULL) IS DISTINCT FROM (EXCLUDED.running, EXCLUDED.state, EXCLUDED.outcome))
        OR (r.outcome IN ('lost', 'unknown') AND EXCLUDED.outcome IS DISTINCT FROM r.outcome)
        OR (EXCLUDED.restarted AND NOT r.restarted);
END $$;

-- The allocation is over, whatever its tasks told.
CREATE OR REPLACE FUNCTION nomad_end(e events, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := coalesce(nanoseconds(a->'ModifyTime'), e.time);
BEGIN
    UPDATE task_runs SET ended = at, outcome = CASE a->>'ClientStatus'
            WHEN 'complete' THEN CASE a->>'DesiredStatus' WHEN 'run' THEN 'finished' ELSE 'killed' END
            ELSE a->>'ClientStatus'
        END
    WHERE source = e.source AND instance = e.key AND outcome IS NULL;
    IF coalesce(a->>'NextAllocation', '') <> '' THEN -- it was scheduled anew
        UPDATE task_runs SET restarted = true
        WHERE source = e.source AND instance = e.key AND outcome IN ('failed', 'lost', 'unhealthy') AND NOT restarted;
    END IF;
    PERFORM note_health(e.source, a->>'JobID', e.key, at, 'ended', false);
END $$;
