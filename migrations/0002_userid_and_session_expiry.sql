-- From the Python back end's tables to ours. Every row is kept. The whole file is one
-- transaction: it happens or it does not.
LOCK TABLE people."user", people.user_session IN ACCESS EXCLUSIVE MODE;

-- Column types. An ORM writes varchar(n) and timestamp without time zone (in UTC) where we say text and timestamptz.
-- Its defaults go; those that we want come further down.
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT table_name, column_name, data_type
        FROM information_schema.columns
        WHERE table_schema = 'people'
          AND (table_name, column_name) IN (
              ('user', 'user_id'), ('user', 'user_name'), ('user', 'country'), ('user', 'job'), ('user', 'phone'),
              ('user', 'email'), ('user', 'init_cn_level'), ('user', 'password_hash'), ('user', 'reg_time'),
              ('user_session', 'session_id'), ('user_session', 'user_id'), ('user_session', 'token'),
              ('user_session', 'login_time'), ('user_session', 'logout_time'))
    LOOP
        EXECUTE format('ALTER TABLE people.%I ALTER COLUMN %I DROP DEFAULT', c.table_name, c.column_name);
        IF c.data_type IN ('character varying', 'character') THEN
            EXECUTE format('ALTER TABLE people.%I ALTER COLUMN %I TYPE text', c.table_name, c.column_name);
        ELSIF c.data_type = 'timestamp without time zone' THEN
            EXECUTE format('ALTER TABLE people.%I ALTER COLUMN %I TYPE timestamptz USING %I AT TIME ZONE ''UTC''',
                c.table_name, c.column_name, c.column_name);
        END IF;
    END LOOP;
END
$$;

-- Constraints: ours have names of ours. What was unique besides the keys (a user name, a token) no longer
-- is: the display name may repeat, the new userid may not.
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT i.indrelid::regclass AS table_name, i.indexrelid::regclass AS index_name, k.conname
        FROM pg_index i
        LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype = 'u'
        WHERE i.indrelid IN ('people."user"'::regclass, 'people.user_session'::regclass)
          AND i.indisunique AND NOT i.indisprimary
    LOOP
        IF c.conname IS NULL THEN
            EXECUTE format('DROP INDEX %s', c.index_name);
        ELSE
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.table_name, c.conname);
        END IF;
    END LOOP;

    FOR c IN
        SELECT conrelid::regclass AS table_name, conname,
               CASE conrelid WHEN 'people."user"'::regclass THEN 'user_pkey' ELSE 'user_session_pkey' END AS name
        FROM pg_constraint
        WHERE conrelid IN ('people."user"'::regclass, 'people.user_session'::regclass) AND contype = 'p'
    LOOP
        IF c.conname <> c.name THEN
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', c.table_name, c.conname, c.name);
        END IF;
    END LOOP;

    FOR c IN
        SELECT conname FROM pg_constraint
        WHERE conrelid = 'people.user_session'::regclass AND contype = 'f' AND confrelid = 'people."user"'::regclass
    LOOP
        EXECUTE format('ALTER TABLE people.user_session DROP CONSTRAINT %I', c.conname);
    END LOOP;
END
$$;

ALTER TABLE people.user_session
    ADD CONSTRAINT user_session_user_id_fkey FOREIGN KEY (user_id) REFERENCES people."user" (user_id) ON DELETE CASCADE;

-- The userid: what people type to log in. In its canonical form (NFKC, lower case, NFKC), which
-- shared/src/users.rs makes of what is typed; a test compares the two character by character.
ALTER TABLE people."user" ADD COLUMN userid text;

DO $$
DECLARE
    repeated text;
BEGIN
    -- An empty table needs no ICU; a plain-ASCII one neither.
    IF EXISTS (SELECT FROM people."user" WHERE octet_length(user_name) <> char_length(user_name)) THEN
        IF NOT EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu') THEN
            RAISE EXCEPTION 'this PostgreSQL is built without ICU, which lower-cases user names beyond ASCII';
        END IF;
        EXECUTE $sql$
            UPDATE people."user"
            SET userid = normalize(lower(normalize(user_name, NFKC) COLLATE "und-x-icu"), NFKC)
        $sql$;
    ELSE
        UPDATE people."user" SET userid = lower(user_name COLLATE "C");
    END IF;

    SELECT string_agg(format('%L (user names %s)', userid, names), '; ') INTO repeated
    FROM (
        SELECT userid, string_agg(quote_literal(user_name), ', ' ORDER BY user_name) AS names
        FROM people."user"
        WHERE userid <> ''
        GROUP BY userid
        HAVING count(*) > 1
        ORDER BY userid
        LIMIT 20
    ) AS pairs;
    IF repeated IS NOT NULL THEN
        RAISE EXCEPTION 'rename these users first, their names are now one userid: %', repeated;
    END IF;

    -- A user without a name is kept, and has only the key to be called by.
    UPDATE people."user" SET userid = user_id::text WHERE userid IS NULL OR userid = '';
END
$$;

UPDATE people."user" SET reg_time = now() WHERE reg_time IS NULL;

ALTER TABLE people."user"
    ALTER COLUMN user_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN userid SET NOT NULL,
    ALTER COLUMN user_name DROP NOT NULL,
    ALTER COLUMN country DROP NOT NULL,
    ALTER COLUMN job DROP NOT NULL,
    ALTER COLUMN phone DROP NOT NULL,
    ALTER COLUMN email DROP NOT NULL,
    ALTER COLUMN init_cn_level DROP NOT NULL,
    ALTER COLUMN password_hash DROP NOT NULL,
    ALTER COLUMN reg_time SET DEFAULT now(),
    ALTER COLUMN reg_time SET NOT NULL,
    ADD CONSTRAINT user_userid_key UNIQUE (userid);

-- Sessions: the old ones end here, and their raw tokens go.
ALTER TABLE people.user_session
    ALTER COLUMN user_id DROP NOT NULL,
    ALTER COLUMN token DROP NOT NULL,
    ADD COLUMN expires_at timestamptz;

UPDATE people.user_session
SET token = NULL,
    login_time = coalesce(login_time, now()),
    logout_time = coalesce(logout_time, now()),
    expires_at = now();

ALTER TABLE people.user_session
    ALTER COLUMN login_time SET DEFAULT now(),
    ALTER COLUMN login_time SET NOT NULL,
    ALTER COLUMN logout_time DROP NOT NULL,
    ALTER COLUMN expires_at SET NOT NULL,
    -- SHA-256 in hex: a raw token cannot get in by mistake.
    ADD CONSTRAINT user_session_token_check CHECK (token ~ '^[0-9a-f]{64}$');

-- For the cascade from people."user".
CREATE INDEX IF NOT EXISTS user_session_user_id_idx ON people.user_session (user_id);
