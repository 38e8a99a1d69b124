-- Comments on the platform's own tables, as the reference of tables has them.

COMMENT ON TABLE etl_batches IS
    'One row for each batch.';
COMMENT ON COLUMN etl_batches.batch_id IS 'the batch';
COMMENT ON COLUMN etl_batches.source IS 'source';
COMMENT ON COLUMN etl_batches.mode IS 'incremental, full, backfill or replay';
COMMENT ON COLUMN etl_batches.connection IS 'connection; default';
COMMENT ON COLUMN etl_batches.metadata IS 'what was requested: streams, windows, parameters';
COMMENT ON COLUMN etl_batches.state IS
    'running, pausing (jobs of it still run, to their next page, or are still being planned), paused, cancelling, completed, failed or cancelled';
COMMENT ON COLUMN etl_batches.workflow_id IS 'its QueuerFlow';
COMMENT ON COLUMN etl_batches.run_id IS 'the workflow''s run';
COMMENT ON COLUMN etl_batches.planner IS
    'the attempt that writes the jobs; an older one that still runs finds itself replaced';
COMMENT ON COLUMN etl_batches.jobs_planned IS 'number of jobs';
COMMENT ON COLUMN etl_batches.summary IS 'the summary, once it has ended';
COMMENT ON COLUMN etl_batches.created_at IS 'start';
COMMENT ON COLUMN etl_batches.ended_at IS 'end; null while it runs';
COMMENT ON COLUMN etl_batches.temporal_address IS 'the Temporal that it runs in, as the queuer reaches it';
COMMENT ON COLUMN etl_batches.temporal_namespace IS 'its namespace';
COMMENT ON COLUMN etl_batches.temporal_namespace_id IS 'the server''s id of that namespace';
COMMENT ON COLUMN etl_batches.sighted_at IS 'when a queuer last found the workflow running';
COMMENT ON COLUMN etl_batches.held IS
    'why the batch moves no watermark, though everything it was shown is loaded';
COMMENT ON COLUMN etl_batches.keeps_missing IS
    'whether its account may not see everything that was loaded, so that nothing it misses is deleted';
COMMENT ON COLUMN etl_batches.lease_until IS
    'until when the process that runs it without Temporal counts as alive; null: a workflow runs it';
COMMENT ON COLUMN etl_batches.control_changes IS
    'number of the last pause, resume or cancel that state follows';
COMMENT ON COLUMN etl_batches.retries IS 'the batch whose failed jobs it runs; null: it plans its own';
COMMENT ON COLUMN etl_batches.original IS
    'the first batch of that chain, whose jobs they load together; null: itself';
COMMENT ON COLUMN etl_batches.engine IS 'what runs it, for life: temporal or local';
COMMENT ON TABLE etl_runs IS
    'One row for each run that was requested, entered before any engine is asked; a schedule''s are entered when their workflow begins.';
COMMENT ON COLUMN etl_runs.workflow_id IS
    'the run: its workflow''s id, which it has in the local engine as well';
COMMENT ON COLUMN etl_runs.source IS 'source';
COMMENT ON COLUMN etl_runs.connection IS 'connection; default';
COMMENT ON COLUMN etl_runs.request IS 'what was requested: mode, streams, dates, parameters';
COMMENT ON COLUMN etl_runs.run_id IS 'the id of its one execution in the local engine';
COMMENT ON COLUMN etl_runs.engine IS 'temporal or local; null until one has it, and then never changed';
COMMENT ON COLUMN etl_runs.requested_by IS 'who requested it, where that is known';
COMMENT ON COLUMN etl_runs.requested_at IS 'when';
COMMENT ON COLUMN etl_runs.wanted IS 'what the local engine shall do with it: run, pause or cancel';
COMMENT ON COLUMN etl_runs.wanted_by IS 'who requested that last';
COMMENT ON COLUMN etl_runs.wanted_at IS 'when';
COMMENT ON COLUMN etl_runs.batch_id IS 'its batch, once it is resolved';
COMMENT ON COLUMN etl_runs.error IS 'why it failed';
COMMENT ON COLUMN etl_runs.error_type IS 'kind of that error, where the run could not be begun';
COMMENT ON COLUMN etl_runs.ended_at IS 'end; null while it waits or goes on';
COMMENT ON COLUMN etl_runs.owner IS
    'the process of the local engine that drives it: host, process id and a random part';
COMMENT ON COLUMN etl_runs.epoch IS 'number of that owner; a former one can end nothing of the run';
COMMENT ON COLUMN etl_runs.lease_until IS 'until when the owner counts as alive';
COMMENT ON COLUMN etl_runs.adoptions IS 'owners in a row that died without having loaded a page';
COMMENT ON COLUMN etl_runs.adopted_pages IS 'pages that were loaded when it was last adopted';
COMMENT ON TABLE etl_jobs IS
    'One row for each job.';
COMMENT ON COLUMN etl_jobs.batch_id IS 'the batch';
COMMENT ON COLUMN etl_jobs.seq IS 'number within the batch';
COMMENT ON COLUMN etl_jobs.job_id IS 'the job; the same slice has the same id in every batch';
COMMENT ON COLUMN etl_jobs.source IS 'source';
COMMENT ON COLUMN etl_jobs.stream IS 'stream';
COMMENT ON COLUMN etl_jobs.window_start IS 'start of its window, inclusive';
COMMENT ON COLUMN etl_jobs.window_end IS 'end of its window, exclusive';
COMMENT ON COLUMN etl_jobs.input IS 'what the worker gets: parameters and policy';
COMMENT ON COLUMN etl_jobs.state IS 'planned, running, paused, completed, failed, cancelled or skipped';
COMMENT ON COLUMN etl_jobs.cursor IS 'where extraction continues: behind the last committed page';
COMMENT ON COLUMN etl_jobs.pages IS 'committed pages';
COMMENT ON COLUMN etl_jobs.records IS 'records extracted';
COMMENT ON COLUMN etl_jobs.inserted IS 'rows inserted';
COMMENT ON COLUMN etl_jobs.updated IS 'rows updated';
COMMENT ON COLUMN etl_jobs.unchanged IS 'rows found unchanged';
COMMENT ON COLUMN etl_jobs.rejected IS 'rejects';
COMMENT ON COLUMN etl_jobs.error IS 'why it failed';
COMMENT ON COLUMN etl_jobs.workflow_id IS 'its ETLFlow';
COMMENT ON COLUMN etl_jobs.run_id IS 'the workflow''s run';
COMMENT ON COLUMN etl_jobs.started_at IS 'start';
COMMENT ON COLUMN etl_jobs.touched_at IS 'last progress';
COMMENT ON COLUMN etl_jobs.ended_at IS 'end; null while it runs';
COMMENT ON COLUMN etl_jobs.deleted IS 'rows deleted';
COMMENT ON COLUMN etl_jobs.rejected_records IS 'records of which something was rejected';
COMMENT ON COLUMN etl_jobs.conflicting IS 'rows that shared a key with a different row of the job';
COMMENT ON COLUMN etl_jobs.conflicting_at_once IS 'those of them within one extracted page';
COMMENT ON COLUMN etl_jobs.conflict IS 'the first of them, in words';
COMMENT ON COLUMN etl_jobs.windowless IS
    'true for jobs that no watermark waits for: deletion scans and second readings';
COMMENT ON COLUMN etl_jobs.note IS 'what a person should know, though nothing failed';
COMMENT ON COLUMN etl_jobs.connection IS 'connection; default';
COMMENT ON TABLE etl_pages IS
    'One row for each committed page.';
COMMENT ON COLUMN etl_pages.batch_id IS 'the batch';
COMMENT ON COLUMN etl_pages.seq IS 'the job''s number within it';
COMMENT ON COLUMN etl_pages.page IS 'number within the job';
COMMENT ON COLUMN etl_pages.job_id IS 'the job';
COMMENT ON COLUMN etl_pages.workflow_id IS 'the workflow that wrote it';
COMMENT ON COLUMN etl_pages.run_id IS 'the workflow''s run';
COMMENT ON COLUMN etl_pages.cursor_before IS 'cursor before the page';
COMMENT ON COLUMN etl_pages.cursor_after IS 'cursor behind it';
COMMENT ON COLUMN etl_pages.records IS 'records extracted';
COMMENT ON COLUMN etl_pages.inserted IS 'rows inserted';
COMMENT ON COLUMN etl_pages.updated IS 'rows updated';
COMMENT ON COLUMN etl_pages.unchanged IS 'rows found unchanged';
COMMENT ON COLUMN etl_pages.rejected IS 'rejects';
COMMENT ON COLUMN etl_pages.extracted_at IS 'when it was extracted, by the warehouse''s clock';
COMMENT ON COLUMN etl_pages.loaded_at IS 'when it was committed';
COMMENT ON COLUMN etl_pages.deleted IS 'rows deleted';
COMMENT ON TABLE etl_run_log IS
    'What the services and the engine logged of a run, level INFO and above, without secrets: of each run the last 2,000 lines, for 30 days. Written about once a second; a line log_lines_dropped says how many were not written in its place.';
COMMENT ON COLUMN etl_run_log.line_id IS 'generated';
COMMENT ON COLUMN etl_run_log.batch_id IS 'the batch';
COMMENT ON COLUMN etl_run_log.job_id IS 'the job; null: of the batch as a whole';
COMMENT ON COLUMN etl_run_log.at IS 'when it was logged, by the clock of the process';
COMMENT ON COLUMN etl_run_log.level IS 'info or warning';
COMMENT ON COLUMN etl_run_log.logger IS 'the logger';
COMMENT ON COLUMN etl_run_log.event IS 'what happened, such as page_loaded';
COMMENT ON COLUMN etl_run_log.fields IS 'the record''s other fields';
COMMENT ON TABLE etl_sync_state IS
    'One row for each stream.';
COMMENT ON COLUMN etl_sync_state.source IS 'source';
COMMENT ON COLUMN etl_sync_state.stream IS 'stream';
COMMENT ON COLUMN etl_sync_state.connection IS 'connection; default';
COMMENT ON COLUMN etl_sync_state.watermark IS 'everything before this time is loaded';
COMMENT ON COLUMN etl_sync_state.last_full_at IS 'last complete full run';
COMMENT ON COLUMN etl_sync_state.last_incremental_at IS 'last complete incremental run';
COMMENT ON COLUMN etl_sync_state.records IS 'records extracted by the last run';
COMMENT ON COLUMN etl_sync_state.state IS 'how the last run ended';
COMMENT ON COLUMN etl_sync_state.batch_id IS 'the last run';
COMMENT ON COLUMN etl_sync_state.updated_at IS 'last change of this row';
COMMENT ON COLUMN etl_sync_state.scope IS
    'the filters that the watermark stands for, by their names; null where that is not known';
COMMENT ON TABLE etl_rejects IS
    'Records that could not become rows. The same record rejected again is counted, not repeated.';
COMMENT ON COLUMN etl_rejects.reject_id IS 'the reject';
COMMENT ON COLUMN etl_rejects.source IS 'source';
COMMENT ON COLUMN etl_rejects.stream IS 'stream';
COMMENT ON COLUMN etl_rejects.reject_hash IS 'hash of stage, key and payload';
COMMENT ON COLUMN etl_rejects.stage IS 'where it failed: extract, transform or load';
COMMENT ON COLUMN etl_rejects.reason IS 'why, in words';
COMMENT ON COLUMN etl_rejects.key IS 'the name people know the record by';
COMMENT ON COLUMN etl_rejects.payload IS 'the record';
COMMENT ON COLUMN etl_rejects.times IS 'how often it was met';
COMMENT ON COLUMN etl_rejects.batch_id IS 'the batch that met it last';
COMMENT ON COLUMN etl_rejects.job_id IS 'the job';
COMMENT ON COLUMN etl_rejects.workflow_id IS 'the workflow';
COMMENT ON COLUMN etl_rejects.run_id IS 'the workflow''s run';
COMMENT ON COLUMN etl_rejects.first_seen IS 'first met';
COMMENT ON COLUMN etl_rejects.last_seen IS 'last met';
COMMENT ON COLUMN etl_rejects.extracted_at IS
    'when the record was extracted: its replay overwrites nothing newer';
COMMENT ON COLUMN etl_rejects.payload_bytes IS 'size of the record, where only its beginning is kept';
COMMENT ON COLUMN etl_rejects.connection IS 'connection; default';
COMMENT ON TABLE etl_budgets IS
    'Rate limits: one row for each source whose requests are counted.';
COMMENT ON COLUMN etl_budgets.source IS 'source, or credential of it';
COMMENT ON COLUMN etl_budgets.connection IS 'connection; default';
COMMENT ON COLUMN etl_budgets.granted_until IS 'requests are granted up to this time';
COMMENT ON COLUMN etl_budgets.closed_until IS 'end of the source''s cool-down';
COMMENT ON TABLE etl_account_views IS
    'The widest view under which rows were loaded; a deletion scan needs as wide a one.';
COMMENT ON COLUMN etl_account_views.source IS 'source';
COMMENT ON COLUMN etl_account_views.connection IS 'connection; default';
COMMENT ON COLUMN etl_account_views.accounts IS 'accounts that loaded';
COMMENT ON COLUMN etl_account_views.permissions IS 'permissions that they had';
COMMENT ON COLUMN etl_account_views.containers IS 'projects or the like that they saw';
COMMENT ON COLUMN etl_account_views.updated_at IS 'last change of this row';
COMMENT ON COLUMN etl_account_views.site IS
    'id that the site gives itself; rows of another one are not loaded';
COMMENT ON TABLE etl_scans IS
    'What the last finished deletion scan of a stream compared.';
COMMENT ON COLUMN etl_scans.source IS 'source';
COMMENT ON COLUMN etl_scans.stream IS 'stream';
COMMENT ON COLUMN etl_scans.connection IS 'connection; default';
COMMENT ON COLUMN etl_scans.scope IS 'filters, members or queries that it covered';
COMMENT ON COLUMN etl_scans.finished_at IS 'its end';
COMMENT ON TABLE etl_scan_items IS
    'Items of a deletion scan under way. Unlogged: a scan that loses them in a crash begins anew.';
COMMENT ON COLUMN etl_scan_items.batch_id IS 'the batch';
COMMENT ON COLUMN etl_scan_items.seq IS 'the scan''s job within it';
COMMENT ON COLUMN etl_scan_items.item IS 'the item';
COMMENT ON COLUMN etl_scan_items.finding IS 'listed, missing, present, gone, deleted or kept';
COMMENT ON TABLE etl_deletions IS
    'Rows that were deleted because the source has them no more, entered in the transaction of the deletion, in either way of deleting. An event that is loaded again stays entered: it is in its table. Nothing removes entries.';
COMMENT ON COLUMN etl_deletions.deletion_id IS 'the deletion';
COMMENT ON COLUMN etl_deletions.source IS 'source';
COMMENT ON COLUMN etl_deletions.connection IS 'connection; default';
COMMENT ON COLUMN etl_deletions.table_name IS 'the table: events';
COMMENT ON COLUMN etl_deletions.key IS 'the row''s key within the source and connection: event_id';
COMMENT ON COLUMN etl_deletions.deleted_at IS 'when it was deleted';
COMMENT ON COLUMN etl_deletions.batch_id IS 'the run that deleted it';
COMMENT ON COLUMN etl_deletions.job_id IS 'the job';
COMMENT ON COLUMN etl_deletions.workflow_id IS 'the workflow';
COMMENT ON COLUMN etl_deletions.run_id IS 'the workflow''s run';
COMMENT ON TABLE etl_kept_items IS
    'Items that a narrower scope no longer covers: they stay, and no scan looks for them.';
COMMENT ON COLUMN etl_kept_items.source IS 'source';
COMMENT ON COLUMN etl_kept_items.stream IS 'stream';
COMMENT ON COLUMN etl_kept_items.connection IS 'connection; default';
COMMENT ON COLUMN etl_kept_items.item IS 'the item';
COMMENT ON COLUMN etl_kept_items.kept_at IS 'since when';
COMMENT ON TABLE source_connections IS
    'Connections that are stored in the warehouse.';
COMMENT ON COLUMN source_connections.connection_id IS 'the connection';
COMMENT ON COLUMN source_connections.name IS 'its name, unique';
COMMENT ON COLUMN source_connections.source IS 'source';
COMMENT ON COLUMN source_connections.settings IS 'settings, by the names of their variables';
COMMENT ON COLUMN source_connections.secrets IS
    'where the others are, secrets among them: {"env": …} or {"file": …}; never a value';
COMMENT ON COLUMN source_connections.created_at IS 'when it was created';
COMMENT ON COLUMN source_connections.updated_at IS 'when it was last replaced';
COMMENT ON COLUMN source_connections.version IS
    'number of the version, from 1: whoever replaces it names the one that they saw';
COMMENT ON TABLE collections IS
    'Named sets of connections.';
COMMENT ON COLUMN collections.collection_id IS 'the collection';
COMMENT ON COLUMN collections.name IS 'its name, unique';
COMMENT ON COLUMN collections.created_at IS 'when it was created';
COMMENT ON COLUMN collections.updated_at IS 'when it was last replaced';
COMMENT ON COLUMN collections.version IS 'number of the version, from 1';
COMMENT ON TABLE collection_members IS
    'Members of collections: connections of any origin.';
COMMENT ON COLUMN collection_members.collection_id IS 'the collection';
COMMENT ON COLUMN collection_members.source IS 'source';
COMMENT ON COLUMN collection_members.connection IS 'connection; default';
COMMENT ON TABLE etl_tokens IS
    'Tokens of the API.';
COMMENT ON COLUMN etl_tokens.token_id IS 'the token: the middle part of its text';
COMMENT ON COLUMN etl_tokens.name IS 'name that a person gave it';
COMMENT ON COLUMN etl_tokens.scope IS 'read or operate';
COMMENT ON COLUMN etl_tokens.secret_sha256 IS 'SHA-256 of its secret part';
COMMENT ON COLUMN etl_tokens.created_at IS 'when it was created';
COMMENT ON COLUMN etl_tokens.created_by IS 'by whom';
COMMENT ON COLUMN etl_tokens.expires_at IS 'when it expires; null: never';
COMMENT ON COLUMN etl_tokens.last_used_at IS 'last use, a minute exact';
COMMENT ON COLUMN etl_tokens.revoked_at IS 'when it was revoked; null: it was not';
COMMENT ON TABLE etl_sessions IS
    'Log-ins of browsers.';
COMMENT ON COLUMN etl_sessions.session_sha256 IS 'SHA-256 of the value that the browser has';
COMMENT ON COLUMN etl_sessions.token_id IS 'the token that it logged in with';
COMMENT ON COLUMN etl_sessions.created_at IS 'log-in';
COMMENT ON COLUMN etl_sessions.expires_at IS 'when it ends by itself';
COMMENT ON TABLE etl_audit IS
    'Who did what, written in the transaction of its effect.';
COMMENT ON COLUMN etl_audit.audit_id IS 'the entry';
COMMENT ON COLUMN etl_audit.at IS 'when, by the warehouse''s clock';
COMMENT ON COLUMN etl_audit.actor IS 'who: cli:alice@host, token:ci';
COMMENT ON COLUMN etl_audit.action IS 'what: token.create, state.set';
COMMENT ON COLUMN etl_audit.target IS 'to what';
COMMENT ON COLUMN etl_audit.reason IS 'why, where it was given';
COMMENT ON COLUMN etl_audit.outcome IS 'done, refused or failed';
COMMENT ON COLUMN etl_audit.request_id IS 'the request of the API';
COMMENT ON COLUMN etl_audit.details IS 'further facts, such as the streams concerned';
COMMENT ON TABLE etl_idempotency_keys IS
    'Requests of the API that carried an Idempotency-Key; kept for seven days.';
COMMENT ON COLUMN etl_idempotency_keys.token_id IS 'the token that sent it; empty without one';
COMMENT ON COLUMN etl_idempotency_keys.route IS 'method and route';
COMMENT ON COLUMN etl_idempotency_keys.key IS 'the key';
COMMENT ON COLUMN etl_idempotency_keys.request_sha256 IS
    'SHA-256 of the request: another one with the same key is refused';
COMMENT ON COLUMN etl_idempotency_keys.status IS 'status of the answer; null while the request runs';
COMMENT ON COLUMN etl_idempotency_keys.body IS 'the answer, without secrets';
COMMENT ON COLUMN etl_idempotency_keys.created_at IS 'when the request came';
COMMENT ON TABLE etl_notifications IS
    'Notifications: one row for each event and destination; kept for ninety days.';
COMMENT ON COLUMN etl_notifications.event_key IS
    'the event, such as failed: and the batch''s id; the same however often it is sent';
COMMENT ON COLUMN etl_notifications.destination IS
    'the destination by setting and position, such as NOTIFY_URLS.2';
COMMENT ON COLUMN etl_notifications.kind IS 'finished, failed, late, recovered or test';
COMMENT ON COLUMN etl_notifications.source IS 'source; empty of a test';
COMMENT ON COLUMN etl_notifications.connection IS 'connection';
COMMENT ON COLUMN etl_notifications.event IS 'what is sent: text and data, without secrets';
COMMENT ON COLUMN etl_notifications.state IS 'pending, sending, sent or failed';
COMMENT ON COLUMN etl_notifications.attempts IS 'how often it was tried';
COMMENT ON COLUMN etl_notifications.repeated IS
    'whether a process died while it sent it, so that it was sent once again';
COMMENT ON COLUMN etl_notifications.error IS 'why the last attempt failed, without secrets';
COMMENT ON COLUMN etl_notifications.created_at IS 'when it was entered';
COMMENT ON COLUMN etl_notifications.next_attempt_at IS
    'when it is tried next; while it is sent, when its process is taken for dead';
COMMENT ON COLUMN etl_notifications.sent_at IS 'when it was taken';
COMMENT ON TABLE etl_notification_destinations IS
    'The destinations that processes of the platform have.';
COMMENT ON COLUMN etl_notification_destinations.destination IS 'the destination by setting and position';
COMMENT ON COLUMN etl_notification_destinations.since IS
    'since when it is there: ends of runs before are not announced to it';
COMMENT ON COLUMN etl_notification_destinations.seen_at IS 'when a process last said that it has it';
COMMENT ON TABLE etl_late_streams IS
    'The streams that were found late and have not recovered since.';
COMMENT ON COLUMN etl_late_streams.source IS 'source';
COMMENT ON COLUMN etl_late_streams.connection IS 'connection';
COMMENT ON COLUMN etl_late_streams.stream IS 'stream';
COMMENT ON COLUMN etl_late_streams.due_at IS 'when it was due; null of one that was never loaded';
COMMENT ON COLUMN etl_late_streams.noticed_at IS 'when it was found late';
COMMENT ON TABLE etl_schedules IS
    'Schedules as Temporal listed them last: streams are judged by them while it does not answer.';
COMMENT ON COLUMN etl_schedules.source IS 'source';
COMMENT ON COLUMN etl_schedules.connection IS 'connection';
COMMENT ON COLUMN etl_schedules.streams IS 'the streams that it loads; empty: all';
COMMENT ON COLUMN etl_schedules.mode IS 'mode of its runs';
COMMENT ON COLUMN etl_schedules.paused IS 'whether it is paused';
COMMENT ON COLUMN etl_schedules.timetable IS
    'days, hours and time zone; null where its times are none that etl schedule makes';
COMMENT ON COLUMN etl_schedules.next_run IS 'when its next run is due';
COMMENT ON COLUMN etl_schedules.created_at IS 'when it was made';
COMMENT ON COLUMN etl_schedules.missed IS 'runs that could not be started within the catch-up window';
COMMENT ON COLUMN etl_schedules.skipped IS 'runs that were left out because another one went on';
COMMENT ON COLUMN etl_schedules.missed_at IS 'when one of the two was last seen to have grown';
COMMENT ON COLUMN etl_schedules.seen_at IS 'when it was listed';
COMMENT ON TABLE etl_identities IS 'People of each source, and the employees they are.';
COMMENT ON COLUMN etl_identities.source_kind_id IS 'the source';
COMMENT ON COLUMN etl_identities.person IS 'the id that the source''s records carry';
COMMENT ON COLUMN etl_identities.employee_id IS 'the employee, where known';
COMMENT ON COLUMN etl_identities.email IS 'e-mail address';
COMMENT ON COLUMN etl_identities.name IS 'name';
COMMENT ON COLUMN etl_identities.timezone IS 'IANA time zone';
COMMENT ON COLUMN etl_identities.connection IS 'the connection it was loaded from; part of every key';
COMMENT ON COLUMN etl_identities.version IS
    'version of the source''s rows: changes in a way that readers must know';
COMMENT ON COLUMN etl_identities.specific_version IS 'exact version of the transform';
COMMENT ON COLUMN etl_identities.job_id IS 'the job that wrote the row';
COMMENT ON COLUMN etl_identities.workflow_id IS 'its workflow';
COMMENT ON COLUMN etl_identities.run_id IS 'the workflow''s run';
COMMENT ON COLUMN etl_identities.extracted_at IS 'when it was extracted, by the warehouse''s clock';
COMMENT ON COLUMN etl_identities.loaded_at IS 'when it was first loaded';
COMMENT ON COLUMN etl_identities.updated_at IS 'when it was last changed';
COMMENT ON COLUMN etl_identities.row_hash IS
    'hash of content and versions: rows with the same hash are not written again; null: written anew by the next load';
