-- What people do with their own account: change the password, look at sessions and end them, delete it; what operators
-- do with an account; and what is to be sent about it. Only adds: code that knows nothing of it goes on.
ALTER TABLE people."user"
    -- Counted up by each new password, not by a new hash of the same one. A session counts only while it has its user's
    -- number: a new password ends the other sessions however many there are, and those that are being opened meanwhile.
    ADD COLUMN password_version integer NOT NULL DEFAULT 0,
    -- Counted up by each new address: a link for an address is good for one change.
    ADD COLUMN email_version integer NOT NULL DEFAULT 0,
    ADD COLUMN email_verified_at timestamptz,
    -- null: not disabled.
    ADD COLUMN disabled_at timestamptz,
    -- What they mean is the application's.
    ADD COLUMN roles text[] NOT NULL DEFAULT '{}'
        CONSTRAINT user_roles_check CHECK (cardinality(roles) <= 16);

ALTER TABLE people.user_session
    -- The user's, when the session was opened or the password was changed in it.
    ADD COLUMN password_version integer NOT NULL DEFAULT 0,
    -- May lag: it is not written more often than every 15 minutes.
    ADD COLUMN last_seen timestamptz NOT NULL DEFAULT now(),
    -- Of the log-in.
    ADD COLUMN user_agent text
        CONSTRAINT user_session_user_agent_check CHECK (char_length(user_agent) <= 256),
    ADD COLUMN address inet;
-- `last_seen` is in no index: with room on its page, a row is changed in place.
ALTER TABLE people.user_session SET (fillfactor = 90);

-- The sessions of a user that may be live: to list them, and to end them without looking at those that are over.
CREATE INDEX user_session_open_idx ON people.user_session (user_id, expires_at) WHERE logout_time IS NULL;

-- Live sessions. How long one may be idle is a setting, and not in here. `FOR NO KEY UPDATE` locks the rows of both
-- tables in the order in which they stand here: the user's first, like everybody. What is no part of the condition is
-- left out of the user's: the type of a column that a view has cannot be changed.
CREATE VIEW people.live_session AS
SELECT s.session_id, s.user_id, s.token, s.login_time, s.expires_at, s.last_seen, s.user_agent, s.address, s.password_version
FROM people."user" AS u
JOIN people.user_session AS s ON s.user_id = u.user_id
WHERE s.logout_time IS NULL AND s.expires_at > now() AND s.password_version = u.password_version
  AND u.disabled_at IS NULL;

-- What is to be sent and has not been handed over yet. Holds no token: a link is made when its mail is.
CREATE TABLE people.outbox (
    outbox_id uuid CONSTRAINT outbox_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL CONSTRAINT outbox_kind_check
        CHECK (kind IN ('reset', 'invite', 'email', 'password_changed', 'email_changed', 'user_deleted')),
    -- Whose. No foreign key: a user who was deleted is told, too. Null where that is found out when it is sent, since a
    -- request for an unknown account must be no other work.
    user_id uuid,
    -- reset: the userid, canonical, and the address, as they were typed. email: the new address. Notices: where to.
    userid text,
    address text,
    asked_at timestamptz NOT NULL DEFAULT now()
);

-- Oldest first; and for the removal of what nobody took.
CREATE INDEX outbox_asked_at_idx ON people.outbox (asked_at);
