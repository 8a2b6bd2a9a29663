-- Who keeps the database from cleaning up.

-- name: list_held_open
-- What has been open for so many seconds, or is a replication that holds rows; the oldest first. Of
-- sessions of other users only those with the rights of `pg_read_all_stats` see anything.
SELECT * FROM (
    SELECT 'session', pid::text, coalesce(application_name, ''), coalesce(usename, ''),
        coalesce(state, ''), extract(epoch FROM clock_timestamp() - xact_start)::double precision
            AS age_s
    FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
        AND backend_type = 'client backend'
    UNION ALL
    SELECT 'prepared', gid, '', owner, 'prepared',
        extract(epoch FROM clock_timestamp() - prepared)::double precision
    FROM pg_prepared_xacts
    WHERE database = current_database()
    UNION ALL
    SELECT 'slot', slot_name, coalesce(plugin, ''), '', CASE WHEN active THEN 'active' ELSE 'inactive' END,
        NULL
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL AND NOT active
) AS held
WHERE age_s IS NULL OR age_s >= $1
ORDER BY age_s DESC NULLS LAST
LIMIT 20
