-- The kinds of hash in use: algorithm and parameters, '$2b$12' or '$argon2id$v=19$m=19456,t=2,p=1'. They differ in the
-- work to verify them, so every failed log-in does the work of each. A regular expression takes 30 times as long.
CREATE INDEX user_hash_kind_idx ON people."user" ((
    CASE
        WHEN password_hash LIKE '$2_$__$%' THEN left(password_hash, 6)
        WHEN password_hash LIKE '$argon2id$v=__$%' THEN left(password_hash, 15) || left(split_part(password_hash, '$', 4), 64)
        WHEN password_hash LIKE '$argon2id$%' THEN left(password_hash, 10) || left(split_part(password_hash, '$', 3), 64)
    END COLLATE "C"
));

-- The first `most` of them. Reads one entry of the index for each, however many users have it.
CREATE FUNCTION people.hash_kinds(most integer) RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_kinds text[] := '{}';
    last text := '';
BEGIN
    WHILE cardinality(found_kinds) < most LOOP
        SELECT h.kind INTO last
        FROM (
            SELECT
                CASE
                    WHEN password_hash LIKE '$2_$__$%' THEN left(password_hash, 6)
                    WHEN password_hash LIKE '$argon2id$v=__$%' THEN left(password_hash, 15) || left(split_part(password_hash, '$', 4), 64)
                    WHEN password_hash LIKE '$argon2id$%' THEN left(password_hash, 10) || left(split_part(password_hash, '$', 3), 64)
                END COLLATE "C" AS kind
            FROM people."user"
        ) AS h
        WHERE h.kind > last
        ORDER BY h.kind
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        found_kinds := found_kinds || last;
    END LOOP;
    RETURN found_kinds;
END
$$;

-- Attempts to log in and registrations, counted where every instance sees them.
CREATE TABLE people.attempt (
    -- SHA-256 of what is limited: never a userid or an address.
    key bytea CONSTRAINT attempt_pkey PRIMARY KEY,
    -- Failures, those included that are only reserved; for registrations, how many in their hour.
    failures integer NOT NULL,
    -- When the last failure was counted; for registrations, when their hour began.
    since timestamptz NOT NULL
);

-- For the removal of old rows.
CREATE INDEX attempt_since_idx ON people.attempt (since);

-- Removes a few rows of the past. Those that somebody is counting on at this moment are left to the next caller.
-- now(), not clock_timestamp(): only what is one value for the whole statement is looked up in the index.
-- In PL/pgSQL, which keeps its plan: a function in SQL is planned at each call, a quarter of the time of an attempt.
CREATE FUNCTION people.forget_attempts() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM people.attempt
    WHERE key IN (
        SELECT key FROM people.attempt
        WHERE since < now() - interval '1 day'
        ORDER BY since
        LIMIT 10
        FOR UPDATE SKIP LOCKED
    );
END
$$;

-- Counts a failed attempt on each of `keys` in advance, or on none of them. `free[i]` failures of `keys[i]` have no
-- consequence; then one has to wait 1 s after the last, 2 s after the next, doubling, up to 900 s.
-- `retry_after`: whole seconds to wait; null when the attempt may go on. `failures`: the most that any of the first two
-- keys had. `reserved_at`, `last_since`: what a refund of the last key has to be told.
CREATE FUNCTION people.reserve_attempt(keys bytea[], free integer[])
RETURNS TABLE (retry_after integer, failures integer, reserved_at timestamptz, last_since timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wait double precision;
BEGIN
    -- Locks the rows, making those that are missing, in the one order that everybody keeps.
    INSERT INTO people.attempt AS a (key, failures, since)
    SELECT k, 0, 'epoch' FROM unnest(keys) AS k ORDER BY k
    ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE SET failures = a.failures;

    -- Only now: to wait for a lock takes time.
    reserved_at := clock_timestamp();
    SELECT
        max(extract(epoch FROM a.since - reserved_at) + least(900, 2.0 ^ least(a.failures - k.free, 10)))
            FILTER (WHERE a.failures >= k.free AND NOT old),
        coalesce(max(a.failures) FILTER (WHERE k.n <= 2 AND NOT old), 0),
        max(a.since) FILTER (WHERE k.n = cardinality(keys))
    INTO wait, failures, last_since
    FROM unnest(keys, free) WITH ORDINALITY AS k (key, free, n)
    JOIN people.attempt a ON a.key = k.key,
    LATERAL (SELECT a.since < reserved_at - interval '1 day' AS old) AS age;

    IF wait > 0 THEN
        retry_after := ceil(wait);
    ELSE
        UPDATE people.attempt AS a
        SET failures = CASE WHEN a.since < reserved_at - interval '1 day' THEN 1 ELSE a.failures + 1 END,
            since = reserved_at
        WHERE a.key = ANY (keys);
    END IF;
    PERFORM people.forget_attempts();
    RETURN NEXT;
END
$$;

-- After a success: clears `cleared` and gives the reservation on `refunded` back, with the time of the failure before
-- it unless there has been another since.
CREATE FUNCTION people.refund_attempt(cleared bytea[], refunded bytea, reserved_at timestamptz, last_since timestamptz)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    locked bytea[];
BEGIN
    -- In the one order that everybody keeps. What follows touches only these rows: one that another attempt makes
    -- meanwhile is that one's own, and to wait for it here would be out of order, a deadlock.
    SELECT array_agg(l.key) INTO locked
    FROM (
        SELECT a.key FROM people.attempt AS a WHERE a.key = ANY (cleared || refunded) ORDER BY a.key FOR UPDATE
    ) AS l;
    DELETE FROM people.attempt AS a WHERE a.key = ANY (locked) AND a.key = ANY (cleared);
    UPDATE people.attempt AS a
    SET failures = greatest(a.failures - 1, 0),
        since = CASE WHEN a.since = reserved_at THEN last_since ELSE a.since END
    WHERE a.key = refunded AND a.key = ANY (locked);
END
$$;

-- Counts a registration in the hour that began with the first one of `key`. Seconds to wait when the hour has had
-- `most`, else null.
CREATE FUNCTION people.reserve_registration(key bytea, most integer)
RETURNS integer
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    began timestamptz;
    so_far integer;
    hour CONSTANT interval := '1 hour';
BEGIN
    INSERT INTO people.attempt AS a (key, failures, since) VALUES (key, 0, 'epoch')
    ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE SET failures = a.failures
    RETURNING a.since, a.failures INTO began, so_far;

    IF began <= clock_timestamp() - hour THEN
        UPDATE people.attempt AS a SET failures = 1, since = clock_timestamp() WHERE a.key = key;
        PERFORM people.forget_attempts();
        RETURN NULL;
    ELSIF so_far >= most THEN
        RETURN greatest(1, ceil(extract(epoch FROM began + hour - clock_timestamp())));
    ELSE
        UPDATE people.attempt AS a SET failures = so_far + 1 WHERE a.key = key;
        RETURN NULL;
    END IF;
END
$$;
