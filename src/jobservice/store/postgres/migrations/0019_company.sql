-- Workers say whether they end what they run in silence; see sqlite/migrations/0019_company.sql.
ALTER TABLE workers ADD COLUMN minds_silence boolean NOT NULL DEFAULT false;
