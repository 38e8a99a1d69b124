"""The entries of an archive as Launchpad's JSON, with links of the real service."""

from tests.fakes.launchpad.archive import (
    BASE,
    REDACTED,
    WEB,
    Archive,
    Bug,
    Change,
    Comment,
    Json,
    Message,
    Proposal,
    Question,
    Task,
    Vote,
    chance,
)


class Renderer:
    """Writes the entries of one archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def bug(self, bug: Bug) -> Json:
        link = f"{BASE}/bugs/{bug.number}"
        return {
            **_entry("bug", f"bugs/{bug.number}", bug.updated),
            "id": bug.number,
            "name": None,
            "title": bug.title,
            "description": bug.description,
            "owner_link": self._person(bug.owner),
            "date_created": bug.created,
            "date_last_updated": bug.updated,
            "date_last_message": bug.messages[-1].at if bug.messages else None,
            "date_made_private": None,
            "who_made_private_link": None,
            "duplicate_of_link": _link("bugs/{}", bug.duplicate_of),
            "information_type": "Private" if bug.private else "Public",
            "private": bug.private,
            "security_related": False,
            "tags": list(bug.tags),
            "heat": len(bug.messages) * 2,
            "message_count": len(bug.messages),
            "users_affected_count": 1,
            "number_of_duplicates": 0,
            "can_expire": False,
            "latest_patch_uploaded": None,
            **{
                f"{name}_collection_link": f"{link}/{name}"
                for name in ("activity", "messages", "bug_tasks", "attachments", "subscriptions")
            },
            **_without_links(bug.raw),
        }

    def task(self, bug: Bug, task: Task) -> Json:
        path = f"{task.target}/+bug/{bug.number}"
        closed = bug.updated if task.status in {"Fix Released", "Invalid"} else None
        return {
            **_entry("bug_task", path, task.status),
            "bug_link": f"{BASE}/bugs/{bug.number}",
            "title": f"Bug #{bug.number} in {task.target}: {bug.title}",
            "bug_target_name": task.target,
            "bug_target_display_name": task.target.title(),
            "target_link": f"{BASE}/{task.target}",
            "status": task.status,
            "importance": task.importance,
            "assignee_link": self._person(task.assignee),
            "owner_link": self._person(bug.owner),
            "milestone_link": None,
            "bug_watch_link": None,
            "is_complete": closed is not None,
            "date_created": bug.created,
            "date_assigned": bug.created if task.assignee else None,
            "date_closed": closed,
            "related_tasks_collection_link": f"{BASE}/{path}/related_tasks",
            **_without_links(task.raw),
        }

    def change(self, bug: Bug, change: Change) -> Json:
        path = f"bugs/{bug.number}/activity"
        return {
            **_entry("bug_activity", path, change.at),
            "bug_link": f"{BASE}/bugs/{bug.number}",
            "datechanged": change.at,
            "person_link": self._person(change.person),
            "whatchanged": change.what,
            "oldvalue": change.old,
            "newvalue": change.new,
            "message": change.message,
        }

    def message(self, bug: Bug, message: Message) -> Json:
        parent = bug.tasks[0].target if bug.tasks else "bugs"
        path = f"{parent}/+bug/{bug.number}/comments/{message.index}"
        return {
            **_entry("message", path, message.at),
            "subject": message.subject,
            "content": message.content,
            "owner_link": self._person(message.person),
            "date_created": message.at,
            "date_last_edited": None,
            "date_deleted": None,
            "parent_link": None,
            "bug_attachments_collection_link": f"{BASE}/{path}/bug_attachments",
        }

    def proposal(self, proposal: Proposal) -> Json:
        link = f"{BASE}/{proposal.path}"
        source = proposal.path.partition("/+merge")[0]
        ends: Json = {"prerequisite_branch_link": None, "prerequisite_git_path": None}
        for end, path in (("source", source), ("target", proposal.project)):
            git = proposal.git
            ends[f"{end}_branch_link"] = None if git else f"{BASE}/{path}"
            ends[f"{end}_git_repository_link"] = f"{BASE}/{path}" if git else None
            ends[f"{end}_git_path"] = "refs/heads/main" if git else None
        successor = self._archive.proposals.get(proposal.superseded_by or 0)
        predecessor = self._archive.proposals.get(proposal.supersedes or 0)
        return {
            **_entry("branch_merge_proposal", proposal.path, proposal.status),
            **ends,
            "address": f"mp+{proposal.number}@code.launchpad.net",
            "queue_status": proposal.status,
            "description": proposal.description,
            "commit_message": None,
            "private": proposal.private,
            "registrant_link": self._person(proposal.registrant),
            "reviewer_link": self._person(proposal.reviewer),
            "merge_reporter_link": self._person(proposal.merge_reporter),
            "merged_revno": None,
            "merged_revision_id": "abc123" if proposal.merged and proposal.git else None,
            "reviewed_revid": None,
            "superseded_by_link": f"{BASE}/{successor.path}" if successor else None,
            "supersedes_link": f"{BASE}/{predecessor.path}" if predecessor else None,
            "preview_diff_link": None,
            "date_created": proposal.created,
            "date_review_requested": proposal.review_requested,
            "date_reviewed": proposal.reviewed,
            "date_merged": proposal.merged,
            "all_comments_collection_link": f"{link}/all_comments",
            "votes_collection_link": f"{link}/votes",
            "preview_diffs_collection_link": f"{link}/preview_diffs",
        }

    def comment(self, proposal: Proposal, comment: Comment) -> Json:
        return {
            **_entry("code_review_comment", f"{proposal.path}/comments/{comment.id}", comment.at),
            "id": comment.id,
            "title": f"Re: {proposal.description}",
            "content": comment.content,
            "message_body": comment.content,
            "as_quoted_email": f"> {comment.content}",
            "author_link": self._person(comment.person),
            "owner_link": self._person(comment.person),
            "vote": comment.vote,
            "vote_tag": comment.vote_tag,
            "date_created": comment.at,
            "date_last_edited": None,
            "date_deleted": None,
            "branch_merge_proposal_link": f"{BASE}/{proposal.path}",
        }

    def vote(self, proposal: Proposal, vote: Vote) -> Json:
        comment = f"{proposal.path}/comments/{{}}"
        return {
            **_entry("code_review_vote_reference", f"{proposal.path}/+review/{vote.id}", vote.at),
            "branch_merge_proposal_link": f"{BASE}/{proposal.path}",
            "comment_link": _link(comment, vote.comment),
            "date_created": vote.at,
            "is_pending": vote.comment is None,
            "registrant_link": self._person(vote.registrant),
            "review_type": vote.review_type,
            "reviewer_link": self._person(vote.reviewer),
        }

    def question(self, question: Question) -> Json:
        return {
            **_entry("question", question.path, question.status),
            "id": question.number,
            "title": question.title,
            "description": question.description,
            "status": question.status,
            "language_link": f"{BASE}/+languages/en",
            "owner_link": self._person(question.owner),
            "assignee_link": self._person(question.assignee),
            "answerer_link": self._person(question.answerer),
            "answer_link": None,
            "target_link": f"{BASE}/{question.target}",
            "date_created": question.created,
            "date_due": None,
            "date_last_query": question.last_query,
            "date_last_response": question.last_response,
            "date_solved": question.solved,
            "messages_collection_link": f"{BASE}/{question.path}/messages",
        }

    def answer(self, question: Question, message: Message) -> Json:
        path = f"{question.path}/messages/{message.index}"
        return {
            **_entry("question_message", path, message.at),
            "index": message.index,
            "action": message.action,
            "new_status": message.new_status,
            "visible": True,
            "subject": message.subject,
            "content": message.content,
            "owner_link": self._person(message.person),
            "date_created": message.at,
            "date_last_edited": None,
            "date_deleted": None,
            "parent_link": None,
            "question_link": f"{BASE}/{question.path}",
        }

    def person(self, person: Json) -> Json:
        return person

    def target(self, target: Json) -> Json:
        return {name: value for name, value in target.items() if name != "path"}

    def _person(self, name: str | None) -> str | None:
        if name in self._archive.redacted_people:
            return REDACTED
        return _link("~{}", name)


def _entry(kind: str, path: str, version: str) -> Json:
    return {
        "self_link": f"{BASE}/{path}",
        "web_link": f"{WEB}/{path}",
        "resource_type_link": f"{BASE}/#{kind}",
        "http_etag": f'"{int(chance(path, version) * 10**12):x}"',
    }


def _link(path: str, value: object) -> str | None:
    return None if value is None else f"{BASE}/{path.format(value)}"


def _without_links(raw: Json | None) -> Json:
    """A recorded entry without its links, which the fake writes itself."""
    return {
        name: value
        for name, value in (raw or {}).items()
        if not name.endswith("_link") and not name.endswith("_data")
    }
