-- Which of the servers on this database leads: it alone fires schedules, sweeps and carries operations on.

CREATE TABLE lead (
    the_one boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (the_one),
    server text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,                  -- of the newest lease; never used twice
    expires_at timestamptz NOT NULL         -- by the clock of the database, which all servers share
);

-- The epoch that is obeyed until the end of this transaction: whoever takes the lead waits for that. In
-- one function, so that it is one round trip; each statement in it sees what is committed by then.
CREATE FUNCTION obeyed_epoch() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7305808869231650164);  -- see postgres/migrate.py
    RETURN (SELECT epoch FROM lead WHERE the_one);
END
$$;
