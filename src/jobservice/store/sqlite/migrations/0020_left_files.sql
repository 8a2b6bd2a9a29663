-- The one server of a file removes the directories of a job before it deletes the job: nothing is left elsewhere.
-- See postgres/migrations/0020_left_files.sql.
SELECT 1;
