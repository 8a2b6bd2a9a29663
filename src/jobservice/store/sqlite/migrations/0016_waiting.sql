-- Of PostgreSQL alone: here the statements name the index that they walk along.
SELECT 1;
