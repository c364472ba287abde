-- The tables as the Python back end made them. On its database this file changes nothing;
-- on an empty one it makes the same starting point, so that the next file is one and the
-- same step for both.
DO $$
BEGIN
    -- Not CREATE SCHEMA IF NOT EXISTS: that asks for a right on the database even where the schema is there.
    IF to_regnamespace('people') IS NULL THEN
        CREATE SCHEMA people;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS people."user" (
    user_id uuid PRIMARY KEY,
    user_name text,
    country text,
    job text,
    phone text,
    email text,
    init_cn_level text,
    reg_time timestamptz,
    password_hash text
);

CREATE TABLE IF NOT EXISTS people.user_session (
    session_id uuid PRIMARY KEY,
    user_id uuid REFERENCES people."user" (user_id),
    token text,
    login_time timestamptz,
    logout_time timestamptz
);
