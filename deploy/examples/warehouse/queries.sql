-- The views to ask. Days and hours are those of the session's time zone (SET timezone = 'UTC').
-- `gaps` is how many rows of `missing` touch that time: 0 means that the figures are whole.

-- Of a source; rows that name none count for all.
CREATE OR REPLACE FUNCTION gaps(source_ text, since timestamptz, until timestamptz)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM missing WHERE (source = source_ OR source IS NULL) AND began < until AND ended >= since
$$;

-- A deployment counts on the day that it began, or ended where its beginning was not seen. One that a
-- first snapshot told as over already counts nowhere. success_percent: of those whose outcome is known.
CREATE OR REPLACE VIEW deployments_per_day AS
SELECT
    *, round(100.0 * successful / nullif(successful + failed + cancelled, 0), 1) AS success_percent,
    gaps(source, day, day + 1)
FROM (
    SELECT
        source, coalesce(began, ended)::date AS day, count(*) AS deployments,
        count(*) FILTER (WHERE outcome = 'successful') AS successful,
        count(*) FILTER (WHERE outcome = 'failed') AS failed,
        count(*) FILTER (WHERE outcome = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE outcome = 'unknown') AS unknown,
        count(*) FILTER (WHERE outcome IS NULL) AS under_way,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY ended - began) FILTER (WHERE outcome = 'successful') AS median_time
    FROM deployments WHERE coalesce(began, ended) IS NOT NULL GROUP BY 1, 2
) AS d;

-- A restart: a run that ended by itself, whatever its exit code, or was killed because it was unhealthy, and
-- was started anew, by Marathon, by Nomad in place, or by Nomad as another allocation. What a deployment,
-- a scaling or an operator kills is none.
CREATE OR REPLACE VIEW restarts_per_app AS
SELECT *, gaps(source, day, day + 1)
FROM (
    SELECT
        source, namespace, app, ended::date AS day,
        count(*) FILTER (WHERE restarted) AS restarts, count(*) AS runs_ended,
        count(*) FILTER (WHERE outcome = 'finished') AS finished,
        count(*) FILTER (WHERE outcome = 'failed') AS failed,
        count(*) FILTER (WHERE outcome = 'unhealthy') AS unhealthy,
        count(*) FILTER (WHERE outcome = 'lost') AS lost,
        count(*) FILTER (WHERE outcome = 'killed') AS killed,
        count(*) FILTER (WHERE outcome = 'unknown') AS unknown,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY ended - running) AS median_run
    FROM task_runs WHERE ended IS NOT NULL GROUP BY 1, 2, 3, 4
) AS r;

-- From the first that was heard of a run (TASK_STAGING or TASK_STARTING; Nomad: the allocation was made, or
-- the task is to be restarted) to its first passed check (Nomad: the deployment counts it as healthy).
CREATE OR REPLACE VIEW time_to_healthy AS
SELECT *, gaps(source, day, day + 1)
FROM (
    SELECT
        source, namespace, app, began::date AS day, count(*) AS runs,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY healthy - began) AS median,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY healthy - began) AS p95, max(healthy - began) AS slowest
    FROM task_runs WHERE healthy IS NOT NULL AND began IS NOT NULL GROUP BY 1, 2, 3, 4
) AS h;

-- A failure: a run that failed, was lost, or was killed because it was unhealthy.
CREATE OR REPLACE VIEW failures_per_host AS
SELECT *, round(100.0 * failures / runs_ended, 1) AS failure_percent, gaps(source, day, day + 1)
FROM (
    SELECT
        source, host, ended::date AS day, count(*) AS runs_ended,
        count(*) FILTER (WHERE outcome IN ('failed', 'lost', 'unhealthy')) AS failures, count(DISTINCT app) AS apps
    FROM task_runs WHERE ended IS NOT NULL AND host IS NOT NULL GROUP BY 1, 2, 3
) AS f;

CREATE OR REPLACE VIEW unhealthy_periods AS
SELECT source, app, instance, at AS began, coalesce(until, now()) AS ended
FROM (
    SELECT *, lead(at) OVER (PARTITION BY source, instance ORDER BY seq) AS until
    FROM health_changes WHERE state <> 'check failed'
) AS h
WHERE state = 'unhealthy';

-- unhealthy_time: of all instances together.
CREATE OR REPLACE VIEW health_by_hour AS
SELECT *, gaps(source, hour, hour + interval '1 hour')
FROM (
    SELECT
        source, app, hour, sum(checks_failed) AS checks_failed, sum(turned_healthy) AS turned_healthy,
        sum(turned_unhealthy) AS turned_unhealthy, sum(unhealthy_time) AS unhealthy_time
    FROM (
        SELECT
            source, app, date_trunc('hour', at) AS hour, (state = 'check failed')::int AS checks_failed,
            (state = 'healthy')::int AS turned_healthy, (state = 'unhealthy')::int AS turned_unhealthy,
            interval '0' AS unhealthy_time
        FROM health_changes WHERE state <> 'ended'
        UNION ALL
        SELECT source, app, hour, 0, 0, 0, least(ended, hour + interval '1 hour') - greatest(began, hour)
        FROM unhealthy_periods, generate_series(date_trunc('hour', began), ended, interval '1 hour') AS hour
    ) AS each GROUP BY 1, 2, 3
) AS h;
