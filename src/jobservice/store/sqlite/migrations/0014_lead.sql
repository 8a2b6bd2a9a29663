-- A file has one server, which always leads: there is nothing to keep. See postgres/migrations/0014_lead.sql.
SELECT 1;
