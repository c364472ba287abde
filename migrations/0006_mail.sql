-- Mails that people ask for: a new password for those who forgot theirs.

-- Accounts by address. Not unique: families share one.
CREATE INDEX user_email_idx ON people."user" (lower(email)) WHERE email IS NOT NULL;

-- Asks for a mail with a link to set a new password, for whom `account` means: a userid in its canonical form, or an
-- address in the same form. Looks nobody up, so that the work is the same for everybody: that is for those who take the
-- row.
--
-- Counts the request on `source`, unless that is null, and on `target`, as `people.reserve_place` does. Whole seconds
-- to wait when its source has asked too often, else null. When too many have asked for the target, nothing is sent, and
-- nothing said.
CREATE FUNCTION people.ask_reset(
    source bytea, source_places integer, source_forgets_after interval,
    target bytea, target_places integer, target_forgets_after interval, account text
)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wait integer;
BEGIN
    -- Sources before targets, so that no two requests wait for each other.
    IF source IS NOT NULL THEN
        wait := people.reserve_place(source, source_places, source_forgets_after);
        IF wait IS NOT NULL THEN
            RETURN wait;
        END IF;
    END IF;
    IF people.reserve_place(target, target_places, target_forgets_after) IS NULL THEN
        INSERT INTO people.outbox (kind, userid) VALUES ('reset', account);
    END IF;
    RETURN NULL;
END
$$;
