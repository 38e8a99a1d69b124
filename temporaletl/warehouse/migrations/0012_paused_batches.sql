-- Batches that are pausing, paused or cancelling say so in `state`.

ALTER TABLE etl_batches
    -- Number of the last request of that kind; a late attempt at an earlier one changes nothing.
    ADD COLUMN control_changes integer NOT NULL DEFAULT 0;
