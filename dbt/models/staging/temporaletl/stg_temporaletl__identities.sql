{#- Written by scripts/dbt_package.py from the row classes: change those, then run scripts/docs. -#}
SELECT
    connection,
    source_kind_id,
    person,
    employee_id,
    email,
    name,
    timezone,
    version,
    specific_version,
    job_id,
    workflow_id,
    run_id,
    extracted_at,
    loaded_at,
    updated_at
FROM {{ source('temporaletl', 'etl_identities') }}
