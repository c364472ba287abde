-- The rows of the past, found by the index. `clock_timestamp()` may differ from row to row, so the server compared it
-- with every row of the table, at every attempt: the more people had failed in a day, the longer each log-in took.
-- `now()` is one value for the whole statement.
CREATE OR REPLACE FUNCTION people.forget_attempts() RETURNS void
LANGUAGE sql AS $$
    DELETE FROM people.attempt
    WHERE key IN (
        SELECT key FROM people.attempt
        WHERE since < now() - interval '1 day'
        ORDER BY since
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    );
$$;
