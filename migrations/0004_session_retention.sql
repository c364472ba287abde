-- Sessions that are over are removed after a while, oldest first: the function `purge`.
-- Its index has the moment at which a session ended: its log-out, or else its expiry.
CREATE INDEX user_session_ended_idx ON people.user_session (least(logout_time, expires_at));

-- What is removed makes room for what comes. By default that would be found out only when a fifth of the table is dead.
ALTER TABLE people.user_session SET (autovacuum_vacuum_scale_factor = 0.02);
