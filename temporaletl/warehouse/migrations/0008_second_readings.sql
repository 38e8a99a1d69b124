-- What the next run asks its source for once more, longest untried first.
CREATE INDEX etl_rejects_unread ON etl_rejects (source, stream, last_seen, reject_id)
    WHERE stage = 'extract';
