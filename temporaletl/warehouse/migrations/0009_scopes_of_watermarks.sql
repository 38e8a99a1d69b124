-- What a stream's filters let through where its watermark was set, by the filters' names; NULL where
-- that is not known: then the watermark is taken for that of whatever is loaded next.
ALTER TABLE etl_sync_state ADD COLUMN scope jsonb;

-- Whether a batch's account may not see all that was loaded: nothing it misses is deleted then.
ALTER TABLE etl_batches ADD COLUMN keeps_missing boolean NOT NULL DEFAULT false;
