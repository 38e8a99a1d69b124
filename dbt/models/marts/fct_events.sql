-- depends_on: {{ ref('stg_temporaletl__deletions') }}
{{
    config(
        materialized='incremental',
        unique_key=['source_kind_id', 'connection', 'event_id'],
        incremental_strategy='delete+insert',
        on_schema_change='append_new_columns',
        indexes=[
            {'columns': ['source_kind_id', 'connection', 'event_id'], 'unique': true},
            {'columns': ['updated_at']},
        ],
        pre_hook="{{ temporaletl.delete_what_is_deleted() }}",
    )
}}

SELECT
    events.source_kind_id,
    events.connection,
    events.event_id,
    events.parent_item_id AS item,
    events.event_type,
    events.event_time_utc,
    events.week,
    events.person,
    events.employee_id,
    coalesce(events.employee_id, events.person) AS whoever,
    events.updated_at
FROM {{ ref('all_events') }} AS events
{% if is_incremental() %}
LEFT JOIN {{ this }} AS known
    ON events.source_kind_id = known.source_kind_id
    AND events.connection = known.connection
    AND events.event_id = known.event_id
WHERE events.updated_at >= {{ temporaletl.last_read() }}
    AND events.updated_at IS DISTINCT FROM known.updated_at
{% endif %}
