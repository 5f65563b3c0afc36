-- What a Marathon's events say about deployments, runs and health. Part of schema.sql.
--
-- The order of arrival is the order: Marathon's timestamps go back, by up to a second. An event that
-- comes late changes nothing that has ended for good.

-- The same for a task, its instance, and the two ways to write that: web.instance-UUID._app.1,
-- web.instance-UUID, web.marathon-UUID and web.UUID are one; an older id stands for itself.
CREATE OR REPLACE FUNCTION marathon_instance(id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(found[1] || '.' || found[2], id)
    FROM (
        SELECT regexp_match(id, '^(.*?)\.(?:instance-|marathon-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})')
    ) AS m (found)
$$;

-- What a task's state means as an end; null: it goes on (KILLING and UNREACHABLE do).
CREATE OR REPLACE FUNCTION marathon_outcome(state text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN state = 'TASK_FINISHED' THEN 'finished'
        WHEN state IN ('TASK_FAILED', 'TASK_ERROR') THEN 'failed'
        WHEN state = 'TASK_KILLED' THEN 'killed'
        WHEN state IN ('TASK_LOST', 'TASK_DROPPED', 'TASK_GONE', 'TASK_GONE_BY_OPERATOR', 'TASK_UNKNOWN') THEN 'lost'
    END
$$;

CREATE OR REPLACE FUNCTION apply_marathon(e events) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    b         jsonb := e.body;
    instance_ text := marathon_instance(coalesce(b->>'instanceId', b->>'taskId')); -- where it is about one
BEGIN
    CASE e.type
    WHEN 'status_update_event' THEN
        PERFORM marathon_task(e, b->>'taskId', b->>'taskStatus', b->>'host', e.time, b->>'message');
    WHEN 'health_status_changed_event', 'instance_health_changed_event' THEN
        PERFORM marathon_health(e, instance_, e.time, coalesce(b->>'healthy', b->>'alive')::boolean);
    WHEN 'failed_health_check_event' THEN
        INSERT INTO health_changes (source, app, instance, at, state)
        VALUES (e.source, e.key, instance_, e.time, 'check failed');
    WHEN 'unhealthy_task_kill_event', 'unhealthy_instance_kill_event' THEN
        UPDATE task_runs
        SET given_up = true, restarted = outcome IS NOT NULL, outcome = CASE outcome WHEN 'killed' THEN 'unhealthy' END
        WHERE source = e.source AND id = b->>'taskId' AND (outcome IS NULL OR outcome = 'killed');
    WHEN 'unknown_task_terminated_event', 'unknown_instance_terminated_event' THEN
        UPDATE task_runs
        SET outcome = 'lost', restarted = true, ended = e.time, state = coalesce(b->>'condition', state)
        WHERE source = e.source AND instance = instance_ AND outcome IS NULL;
    WHEN 'app_terminated_event' THEN
        PERFORM lose_runs(e, '{}'); -- whose end was not told
    WHEN 'deployment_info', 'deployment_step_success', 'deployment_step_failure', 'deployment_success',
        'deployment_failed'
    THEN
        PERFORM marathon_deployment(e, e.time);
    WHEN 'Snapshot' THEN
        CASE e.topic
        WHEN 'App' THEN PERFORM marathon_app(e, b #> '{appDefinition,tasks}');
        WHEN 'Pod' THEN PERFORM marathon_pod(e, b #> '{pod,instances}');
        WHEN 'Deployment' THEN PERFORM marathon_deployment(e, time_of(b #>> '{plan,version}'));
        ELSE NULL;
        END CASE;
    ELSE NULL;
    END CASE;
END $$;

CREATE OR REPLACE FUNCTION marathon_task(
    e events, task text, state_ text, host_ text, since timestamptz, message_ text, started timestamptz DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    over     text := marathon_outcome(state_);
    instance text := marathon_instance(task);
BEGIN
    INSERT INTO task_runs AS r
        (source, id, namespace, app, instance, host, began, running, ended, outcome, restarted, state, message)
    VALUES (
        e.source, task, '', e.key, instance, nullif(host_, ''), CASE WHEN over IS NULL THEN since END,
        coalesce(started, CASE state_ WHEN 'TASK_RUNNING' THEN e.time END), CASE WHEN over IS NOT NULL THEN e.time END,
        over, coalesce(over <> 'killed', false), state_, nullif(message_, ''))
    ON CONFLICT (source, id) DO UPDATE SET
        host = coalesce(EXCLUDED.host, r.host), running = coalesce(r.running, EXCLUDED.running),
        ended = EXCLUDED.ended, outcome = CASE WHEN r.given_up AND over = 'killed' THEN 'unhealthy' ELSE over END,
        restarted = over IS NOT NULL AND (r.given_up OR over <> 'killed'),
        state = state_, message = EXCLUDED.message
    WHERE r.outcome IS NULL OR r.outcome IN ('lost', 'unknown'); -- those may come back
    IF over IS NOT NULL THEN
        PERFORM note_health(e.source, e.key, instance, e.time, 'ended', false);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION marathon_health(e events, instance_ text, at timestamptz, is_healthy boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_health(
        e.source, e.key, instance_, at, CASE WHEN is_healthy THEN 'healthy' ELSE 'unhealthy' END, false);
    IF is_healthy THEN
        UPDATE task_runs SET healthy = greatest(at, running, began)
        WHERE source = e.source AND instance = instance_ AND healthy IS NULL AND outcome IS NULL;
    END IF;
END $$;

-- since: when it began, for one that was not known.
CREATE OR REPLACE FUNCTION marathon_deployment(e events, since timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    over  text;
    apps_ text[];
BEGIN
    over := CASE e.type
        WHEN 'deployment_success' THEN 'successful'
        WHEN 'deployment_failed' THEN CASE WHEN e.body->>'reason' ~* 'cancell?ed' THEN 'cancelled' ELSE 'failed' END
    END;
    SELECT coalesce(array_agg(DISTINCT one #>> '{}'), '{}') INTO apps_
    FROM jsonb_path_query(e.body, '$.plan.steps.** ? (exists (@.app) || exists (@.pod)).*') AS one
    WHERE one #>> '{}' LIKE '/%';
    INSERT INTO deployments AS d (source, id, namespace, apps, began, ended, outcome, reason)
    VALUES (
        e.source, e.key, '', apps_, CASE WHEN over IS NULL THEN since END,
        CASE WHEN over IS NOT NULL THEN e.time END, over, e.body->>'reason')
    ON CONFLICT (source, id) DO UPDATE SET
        apps = CASE WHEN cardinality(d.apps) > 0 THEN d.apps ELSE EXCLUDED.apps END,
        ended = EXCLUDED.ended, outcome = over, reason = EXCLUDED.reason
    WHERE d.outcome IS NULL AND over IS NOT NULL OR d.outcome = 'unknown';
END $$;

-- The tasks that an app has, all of them: what else was known of it has ended unseen.
CREATE OR REPLACE FUNCTION marathon_app(e events, tasks jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    task   jsonb;
    result jsonb;
    alive  boolean;
    kept   text[];
BEGIN
    IF jsonb_typeof(tasks) IS DISTINCT FROM 'array' THEN
        RETURN;
    END IF;
    kept := ARRAY(SELECT one->>'id' FROM jsonb_array_elements(tasks) AS one);
    -- By task and not by instance: an instance goes on when its task is started anew.
    UPDATE task_runs SET outcome = 'unknown', ended = e.time
    WHERE source = e.source AND app = e.key AND outcome IS NULL AND NOT id = ANY (kept);
    PERFORM note_health(source, app, instance, e.time, 'ended', false) FROM task_runs
    WHERE source = e.source AND app = e.key AND outcome = 'unknown' AND ended = e.time;
    FOR task IN SELECT jsonb_array_elements(tasks) LOOP
        CONTINUE WHEN marathon_outcome(task->>'state') IS NOT NULL;
        PERFORM marathon_task(
            e, task->>'id', coalesce(task->>'state', 'TASK_RUNNING'), task->>'host', time_of(task->>'stagedAt'), NULL,
            time_of(task->>'startedAt'));
        result := coalesce(
            jsonb_path_query_first(task, '$.healthCheckResults[*] ? (@.alive == false)'),
            jsonb_path_query_first(task, '$.healthCheckResults[*] ? (@.alive == true)'));
        alive := (result->>'alive')::boolean;
        IF alive IS NOT NULL THEN
            PERFORM marathon_health(
                e, marathon_instance(task->>'id'),
                coalesce(CASE WHEN alive THEN time_of(result->>'firstSuccess') END, e.time), alive);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION marathon_pod(e events, instances jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one  jsonb;
    kept text[] := '{}';
BEGIN
    IF jsonb_typeof(instances) IS DISTINCT FROM 'array' THEN
        RETURN;
    END IF;
    FOR one IN SELECT jsonb_array_elements(instances) LOOP
        kept := kept || marathon_instance(one->>'id');
        CONTINUE WHEN EXISTS (
            SELECT FROM task_runs WHERE source = e.source AND instance = marathon_instance(one->>'id'));
        PERFORM marathon_task(
            e, c->>'containerId', coalesce(c->>'status', 'TASK_RUNNING'), one->>'agentHostname',
            time_of(c->>'statusSince'), NULL)
        FROM jsonb_path_query(one, '$.containers[*]') AS c
        WHERE c->>'containerId' IS NOT NULL AND marathon_outcome(c->>'status') IS NULL;
    END LOOP;
    PERFORM lose_runs(e, kept);
END $$;
