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
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
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

-- Counts of attempts, where every instance sees them. A count has a key, some free places, and an interval after which
-- it forgets one attempt; the statements say how many and how long.
CREATE TABLE people.attempt (
    -- SHA-256 of what is counted, so that keys have one length. It hides nothing: userids and addresses can be tried.
    key bytea CONSTRAINT attempt_pkey PRIMARY KEY,
    -- When the last of those counted will be forgotten: each attempt moves it one interval on, so that the time until
    -- then, in intervals, is how many are counted.
    forgotten_at timestamptz NOT NULL,
    -- When the last one that failed was made.
    failed_at timestamptz NOT NULL,
    -- When those were made of which it is not known yet whether they failed. They are among those counted.
    in_flight timestamptz[] NOT NULL DEFAULT '{}'
);

-- For the removal of rows that count nothing any more.
CREATE INDEX attempt_forgotten_at_idx ON people.attempt (forgotten_at);

-- Where a user has logged in lately: guesses from elsewhere do not keep the user out there.
CREATE TABLE people.known_network (
    user_id uuid NOT NULL
        CONSTRAINT known_network_user_id_fkey REFERENCES people."user" (user_id) ON DELETE CASCADE,
    -- An IPv4 address, or the /64 of an IPv6 address.
    network cidr NOT NULL,
    last_login timestamptz NOT NULL,
    CONSTRAINT known_network_pkey PRIMARY KEY (user_id, network)
);

-- For the removal of old rows.
CREATE INDEX known_network_last_login_idx ON people.known_network (last_login);

-- Counts an attempt on each of `keys`, or on none of them. `free[i]` failures of `keys[i]` have no consequence; then
-- one has to wait 1 s after the last, 2 s after the next, doubling, up to 900 s. A key that is not `counted` is locked
-- and otherwise ignored, so that the work does not tell. `failed`: attempts that the caller knows to have failed.
--
-- An attempt occupies its place from now on. It is in flight until it is given back, until its caller says that it
-- failed, or for 10 s, which no request outlives: if it was not given back by then, it failed, or its process was
-- killed.
--
-- `retry_after`: whole seconds to wait; null when the attempt was counted. `only_in_flight`: then only attempts in
-- flight are in its way. `failures`: the most that had failed before on any of the first two keys, as far as is known.
-- `reserved_at`: what `people.give_back_attempt` takes.
CREATE FUNCTION people.reserve_attempt(
    keys bytea[], free integer[], forget_after interval[], counted boolean[], failed timestamptz[],
    OUT retry_after integer, OUT only_in_flight boolean, OUT failures integer, OUT reserved_at timestamptz
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    -- Seconds to wait for those that failed, and for all of them.
    wait_failed double precision;
    wait double precision;
BEGIN
    -- Locks the rows, making those that are missing, in the one order that everybody keeps. What was written by a clock
    -- that has been set back since counts as written now.
    WITH locked AS (
        INSERT INTO people.attempt AS a (key, forgotten_at, failed_at)
        SELECT k, 'epoch', 'epoch' FROM unnest(keys) AS k ORDER BY k
        ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE SET (forgotten_at, failed_at, in_flight) = (
            SELECT a.forgotten_at - greatest(greatest(a.failed_at, max(t)) - clock.now, interval '0'),
                   least(greatest(a.failed_at, max(t) FILTER (WHERE NOT still_in_flight)), clock.now),
                   coalesce(array_agg(t) FILTER (WHERE still_in_flight), '{}')
            FROM (SELECT clock_timestamp() AS now) AS clock
            LEFT JOIN LATERAL (
                SELECT t, t > clock.now - interval '10 seconds' AND t <= clock.now AND t <> ALL (failed) AS still_in_flight
                FROM unnest(a.in_flight) AS t
            ) AS each ON true
            GROUP BY clock.now
        )
        RETURNING a.*
    ), counts AS (
        SELECT k.n, k.free, l.failed_at, clock.now, (SELECT max(t) FROM unnest(l.in_flight) AS t) AS last_in_flight,
               cardinality(l.in_flight) AS in_flight,
               ceil(extract(epoch FROM l.forgotten_at - clock.now)::double precision
                    / extract(epoch FROM k.forget_after)::double precision) AS attempts
        FROM unnest(keys, free, forget_after, counted) WITH ORDINALITY AS k (key, free, forget_after, counted, n)
        JOIN locked AS l ON l.key = k.key
        -- Only now: to wait for a lock takes time.
        CROSS JOIN (SELECT clock_timestamp() AS now FROM (SELECT count(*) FROM locked) AS all_locked) AS clock
        WHERE k.counted
    )
    SELECT max(now),
           max(extract(epoch FROM failed_at - now)::double precision
               + least(900, 2.0 ^ least(attempts - in_flight - free, 10))) FILTER (WHERE attempts - in_flight >= free),
           max(extract(epoch FROM greatest(failed_at, last_in_flight) - now)::double precision
               + least(900, 2.0 ^ least(attempts - free, 10))) FILTER (WHERE attempts >= free),
           greatest(max(attempts - in_flight) FILTER (WHERE n <= 2), 0)
    INTO reserved_at, wait_failed, wait, failures
    FROM counts;

    IF wait > 0 THEN
        only_in_flight := NOT coalesce(wait_failed > 0, false);
        retry_after := CASE WHEN only_in_flight THEN 1 ELSE ceil(wait_failed) END;
    ELSE
        UPDATE people.attempt AS a
        SET forgotten_at = greatest(a.forgotten_at, reserved_at) + k.forget_after,
            in_flight = a.in_flight || reserved_at
        FROM unnest(keys, forget_after, counted) AS k (key, forget_after, counted)
        WHERE a.key = k.key AND k.counted;
    END IF;
END
$$;

-- After a success: clears those of `keys` that are to be `cleared`, and gives the attempt that was reserved at
-- `reserved_at` back on the others. Has no effect the second time. Rows that count nothing any more go.
CREATE FUNCTION people.give_back_attempt(
    keys bytea[], forget_after interval[], cleared boolean[], reserved_at timestamptz
)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked bytea[];
BEGIN
    -- In the one order that everybody keeps. What follows touches only these rows: one that another attempt makes
    -- meanwhile is that one's own, and to wait for it here would be out of order, a deadlock.
    SELECT array_agg(l.key) INTO locked
    FROM (SELECT a.key FROM people.attempt AS a WHERE a.key = ANY (keys) ORDER BY a.key FOR UPDATE) AS l;

    UPDATE people.attempt AS a
    SET forgotten_at = CASE WHEN k.cleared THEN 'epoch' ELSE a.forgotten_at - k.forget_after END,
        in_flight = CASE WHEN k.cleared THEN '{}' ELSE array_remove(a.in_flight, reserved_at) END
    FROM unnest(keys, forget_after, cleared) AS k (key, forget_after, cleared)
    WHERE a.key = k.key AND a.key = ANY (locked) AND reserved_at = ANY (a.in_flight);

    DELETE FROM people.attempt AS a
    WHERE a.key = ANY (locked) AND a.forgotten_at <= clock_timestamp();
END
$$;

-- Counts a request on `key`, which has `places` and forgets one after each `forget_after`; one that is given back by
-- nobody. Whole seconds until a place will be free when there is none, else null.
CREATE FUNCTION people.reserve_place(key bytea, places integer, forget_after interval)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    now timestamptz;
    free_at timestamptz;
BEGIN
    -- Here `failed_at` is the time of the last request: what is later than now was written before the clock was set
    -- back.
    INSERT INTO people.attempt AS a (key, forgotten_at, failed_at) VALUES (key, 'epoch', 'epoch')
    ON CONFLICT ON CONSTRAINT attempt_pkey DO UPDATE SET
        forgotten_at = a.forgotten_at - greatest(a.failed_at - clock_timestamp(), interval '0'),
        failed_at = least(a.failed_at, clock_timestamp())
    RETURNING a.forgotten_at - (places - 1) * forget_after INTO free_at;

    now := clock_timestamp();
    IF free_at > now THEN
        RETURN ceil(extract(epoch FROM free_at - now));
    END IF;
    UPDATE people.attempt AS a
    SET forgotten_at = greatest(a.forgotten_at, now) + forget_after, failed_at = now
    WHERE a.key = key;
    RETURN NULL;
END
$$;
