-- Which site rows were loaded from, by its own id: rows of two must not meet under one connection.

ALTER TABLE etl_account_views ADD COLUMN site text;
