-- Why a batch moves no watermark, though all that it was shown is loaded.
ALTER TABLE etl_batches ADD COLUMN held text;
