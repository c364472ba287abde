-- Sessions: one for each log-in.
CREATE TABLE IF NOT EXISTS people.user_session (
    -- Made by the application: it is signed into the token.
    session_id uuid CONSTRAINT user_session_pkey PRIMARY KEY,
    user_id uuid CONSTRAINT user_session_user_id_fkey REFERENCES people."user" (user_id) ON DELETE CASCADE,
    -- SHA-256 in hex: a raw token cannot get in by mistake.
    token text CONSTRAINT user_session_token_check CHECK (token ~ '^[0-9a-f]{64}$'),
    login_time timestamptz NOT NULL DEFAULT now(),
    -- null: online.
    logout_time timestamptz,
    expires_at timestamptz NOT NULL
);

-- Fails on a table that was not adopted.
COMMENT ON COLUMN people.user_session.expires_at IS 'By the clock of the database.';

-- For the cascade from people."user".
CREATE INDEX user_session_user_id_idx ON people.user_session (user_id);
