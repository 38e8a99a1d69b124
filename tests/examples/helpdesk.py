"""Source `helpdesk`: its tickets as a table of their own, and the comments of each as events."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import msgspec

import temporaletl as etl
from temporaletl.external import rest


@rest.rest_source("helpdesk", streams=("tickets", "comments"))
class HelpdeskSettings(rest.TokenSettings, alias_generator=rest.variables("HELPDESK")):
    """Reads HELPDESK_URL, HELPDESK_TOKEN, ..."""


@etl.query_type("helpdesk")
class HelpdeskQuery(etl.Query): ...


class TicketRow(etl.Row, frozen=True, kw_only=True):
    table: ClassVar[str] = "helpdesk_tickets"
    key: ClassVar[tuple[str, ...]] = ("ticket_id",)

    ticket_id: int
    title: str
    state: str
    opened_at: datetime
    minutes_spent: float | None = None
    labels: etl.Json = None


class Ticket(msgspec.Struct):
    id: int
    title: str
    state: str
    opened_at: datetime
    minutes_spent: float | None = None
    labels: list[str] = []


def changed_tickets(
    api: rest.RestApi, request: etl.PageRequest[HelpdeskQuery]
) -> AsyncGenerator[etl.Page]:
    return rest.by_time(
        api, "tickets", request, records="tickets", time="changed_at", since="since", page="page"
    )


@etl.extract_method("helpdesk-tickets")
async def tickets(request: etl.PageRequest[HelpdeskQuery]) -> AsyncGenerator[etl.Page]:
    async for page in changed_tickets(rest.open_api("helpdesk", HelpdeskSettings.load()), request):
        yield page


@etl.transform_method("helpdesk-tickets", rows=(TicketRow,))
@rest.decoded(Ticket)
def ticket_rows(
    ticket: Ticket, _context: etl.TransformContext[HelpdeskQuery]
) -> Iterator[TicketRow]:
    yield TicketRow(
        ticket_id=ticket.id,
        title=ticket.title,
        state=ticket.state,
        opened_at=ticket.opened_at,
        minutes_spent=ticket.minutes_spent,
        labels=ticket.labels,
    )


class Comment(msgspec.Struct):
    id: int
    ticket_id: int
    author: str
    written_at: datetime


@etl.extract_method("helpdesk-comments")
async def comments(request: etl.PageRequest[HelpdeskQuery]) -> AsyncGenerator[etl.Page]:
    """Yield, for each page of changed tickets, all comments of those tickets."""
    api = rest.open_api("helpdesk", HelpdeskSettings.load())
    beginning = replace(request, cursor=None)  # each inner list is read from its own
    async for page in changed_tickets(api, request):
        found: list[rest.Record] = []
        rejects = [*page.rejects]
        for ticket in page.records:
            path = f"tickets/{ticket.key}/comments"
            async for inner in rest.by_number(api, path, beginning, records="comments"):
                found += inner.records
                rejects += inner.rejects
        yield etl.Page(found, cursor=page.cursor, rejects=rejects, note=page.note)


@etl.transform_method("helpdesk-comments")
@rest.decoded(Comment)
def comment_events(
    comment: Comment, context: etl.TransformContext[HelpdeskQuery]
) -> Iterator[etl.Event]:
    yield etl.Event(
        event_id=f"ticket:{comment.ticket_id}:comment:{comment.id}",
        event_type="comment_written",
        event_time_utc=comment.written_at.astimezone(UTC),
        parent_item_id=str(comment.ticket_id),
        relation_type="author",
        person=comment.author,
        employee_id=context.employee(comment.author),
    )
