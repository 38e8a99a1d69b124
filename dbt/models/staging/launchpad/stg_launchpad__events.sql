{#- Written by scripts/dbt_package.py from the row classes: change those, then run scripts/docs. -#}
SELECT
    source_kind_id,
    connection,
    event_id,
    parent_item_id,
    event_type,
    relation_type,
    person,
    employee_id,
    event_time_utc,
    week,
    timezone,
    event_time,
    event_properties,
    relation_properties,
    metrics,
    version,
    specific_version,
    job_id,
    workflow_id,
    run_id,
    extracted_at,
    loaded_at,
    updated_at
FROM {{ source('launchpad', 'events') }}
WHERE deleted_at IS NULL
