"""The settings that a connection of a source may give, as forms and documents list them."""

from temporaletl.connections.declarations import declaration_of
from temporaletl.control.operations.sources import find_source
from temporaletl.messages import Message
from temporaletl.settings.platform import variables_of


class ConnectionSetting(Message):
    """One setting: its name, what it is for, and its default in words, where it has one.

    `main`: it is the source's own, and has no default: a connection will hardly do without it.
    """

    name: str
    secret: bool
    required: bool
    main: bool
    description: str = ""
    default: str | None = None


def connection_settings_of(source: str) -> list[ConnectionSetting]:
    """The settings of a source's connections: the main ones first, then by name.

    Raises:
        UnknownSourceError, StrategyImportError: as `find_source`.
    """
    find_source(source)
    declared = declaration_of(source)
    found: dict[str, ConnectionSetting] = {}
    for place, cls in enumerate([] if declared is None else declared.classes):
        # The first is the source's own; the others may be of another server beside it.
        is_own, secrets = place == 0, cls.secrets()
        for field, info in cls.model_fields.items():
            name, secret, required = (
                variables_of(field, info)[0],
                field in secrets,
                info.is_required(),
            )
            default = None if required else info.default
            found.setdefault(
                name,
                ConnectionSetting(
                    name=name,
                    secret=secret,
                    required=required and is_own,
                    main=is_own and (default is None or secret),
                    description=info.description or "",
                    default=None if default is None or secret else str(default),
                ),
            )
    return sorted(found.values(), key=lambda one: (not one.main, one.secret, one.name))
