"""Account views: the widest view of a source under which rows were loaded."""

from psycopg.rows import dict_row

from temporaletl.accounts import AccountView, KnownView
from temporaletl.warehouse.connection import Warehouse


def known_view(warehouse: Warehouse, source: str, connection_name: str) -> KnownView | None:
    """The union of the views under which rows were loaded; None where there is none yet."""
    with warehouse.connection() as connection:
        row = (
            connection.cursor(row_factory=dict_row)
            .execute(
                """
                SELECT accounts, permissions, containers, site FROM etl_account_views
                WHERE source = %s AND connection = %s
                """,
                [source, connection_name],
            )
            .fetchone()
        )
    if row is None:
        return None
    return KnownView(
        frozenset(row["accounts"]),
        frozenset(row["permissions"]),
        frozenset(row["containers"]),
        row["site"],
    )


def widen_view(warehouse: Warehouse, source: str, connection_name: str, view: AccountView) -> None:
    """Add a view, under which rows are loaded, to the known one. Safe to repeat."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO etl_account_views AS v
                (source, connection, accounts, permissions, containers, site)
            VALUES (%(source)s, %(connection)s, %(accounts)s, %(permissions)s, %(containers)s,
                %(site)s)
            ON CONFLICT (source, connection) DO UPDATE SET
                accounts = ARRAY(SELECT unnest(v.accounts) UNION SELECT unnest(%(accounts)s)),
                permissions =
                    ARRAY(SELECT unnest(v.permissions) UNION SELECT unnest(%(permissions)s)),
                containers = ARRAY(SELECT unnest(v.containers) UNION SELECT unnest(%(containers)s)),
                site = coalesce(%(site)s, v.site),
                updated_at = now()
            WHERE NOT (v.accounts @> %(accounts)s AND v.permissions @> %(permissions)s
                AND v.containers @> %(containers)s
                AND coalesce(%(site)s, v.site) IS NOT DISTINCT FROM v.site)
            """,
            _values(source, connection_name, view),
        )


def replace_view(
    warehouse: Warehouse, source: str, connection_name: str, view: AccountView
) -> None:
    """Replace the known view by one that a person has accepted. Safe to repeat."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO etl_account_views
                (source, connection, accounts, permissions, containers, site)
            VALUES (%(source)s, %(connection)s, %(accounts)s, %(permissions)s, %(containers)s,
                %(site)s)
            ON CONFLICT (source, connection) DO UPDATE SET accounts = excluded.accounts,
                permissions = excluded.permissions, containers = excluded.containers,
                site = excluded.site, updated_at = now()
            """,
            _values(source, connection_name, view),
        )


def _values(source: str, connection_name: str, view: AccountView) -> dict[str, object]:
    return {
        "source": source,
        "connection": connection_name,
        "accounts": [] if view.account is None else [view.account],
        "permissions": sorted(view.permissions),
        "containers": sorted(view.containers),
        "site": view.site,
    }
