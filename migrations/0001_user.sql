-- Users. Where an earlier back end's table has been adopted (shared/src/database/adoption), it has this shape already.
DO $$
BEGIN
    -- Not CREATE SCHEMA IF NOT EXISTS: that asks for a right on the database even where the schema is there.
    IF to_regnamespace('people') IS NULL THEN
        CREATE SCHEMA people;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS people."user" (
    user_id uuid CONSTRAINT user_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    -- Display name; null: the userid.
    user_name text,
    country text,
    job text,
    phone text,
    email text,
    init_cn_level text,
    reg_time timestamptz NOT NULL DEFAULT now(),
    -- Argon2id (PHC) or bcrypt; null: nobody can log in.
    password_hash text,
    userid text NOT NULL CONSTRAINT user_userid_key UNIQUE
);

-- Fails on a table that was not adopted.
COMMENT ON COLUMN people."user".userid IS
    'What people type to log in, canonical: NFKC, lower case, NFKC, as shared/src/users makes it.';
