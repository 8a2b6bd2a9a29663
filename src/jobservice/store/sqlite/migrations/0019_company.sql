-- A worker in the process of a server goes on for ever while it is alone; once it knows of others it ends what it
-- runs when the store does not answer, and only then its leases run out by themselves. The worker itself says so.
ALTER TABLE workers ADD COLUMN minds_silence INTEGER NOT NULL DEFAULT 0;
