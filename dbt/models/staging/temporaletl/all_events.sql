{#- Written by scripts/dbt_package.py from the row classes: change those, then run scripts/docs. -#}
{%- set sources = ['jira', 'launchpad', 'salesforce', 'trino'] | select('in', var('temporaletl_sources')) -%}
{%- for source in sources %}
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
FROM {{ ref('stg_' ~ source ~ '__events') }}
{% if not loop.last %}UNION ALL{% endif %}
{%- endfor %}
