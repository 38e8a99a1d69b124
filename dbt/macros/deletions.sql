{#- The time from which an incremental model has to read anew. What was under way when it last read
    has a time before the last that it has read, by no more than a transaction of a load lasts.
    The default stands here: models of other packages have their own variables. -#}
{% macro last_read() -%}
    (SELECT coalesce(max(updated_at), '-infinity') FROM {{ this }})
        - interval '{{ var('temporaletl_lookback', '1 hour') }}'
{%- endmacro %}

{#- Delete from an incremental model of events those that are deleted from the warehouse, whether
    their rows are gone or only marked. Before the model's own query: afterwards its last time would
    be that of the rows it has just read. An event that was loaded again stays. -#}
{% macro delete_what_is_deleted() -%}
    {%- if is_incremental() -%}
    DELETE FROM {{ this }} AS mart
    USING {{ ref('temporaletl', 'stg_temporaletl__deletions') }} AS gone
    WHERE gone.table_name = 'events'
      AND gone.deleted_at >= {{ temporaletl.last_read() }}
      AND mart.source_kind_id = gone.source
      AND mart.connection = gone.connection
      AND mart.event_id = gone.key
      AND NOT EXISTS (
        SELECT FROM {{ ref('temporaletl', 'all_events') }} AS present
        WHERE present.source_kind_id = gone.source
          AND present.connection = gone.connection
          AND present.event_id = gone.key
      )
    {%- endif -%}
{%- endmacro %}
