-- Workers say where they are; see sqlite/migrations/0022_origins.sql.
ALTER TABLE workers ADD COLUMN origin text NOT NULL DEFAULT '';
