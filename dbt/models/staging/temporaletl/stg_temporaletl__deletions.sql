{#- Written by scripts/dbt_package.py from the row classes: change those, then run scripts/docs. -#}
SELECT
    deletion_id,
    source,
    connection,
    table_name,
    key,
    deleted_at,
    batch_id,
    job_id,
    workflow_id,
    run_id
FROM {{ source('temporaletl', 'etl_deletions') }}
