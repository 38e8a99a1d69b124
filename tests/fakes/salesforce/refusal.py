"""Requests that Salesforce refuses, in its own codes and words."""


class RefusedError(Exception):
    """A request gets an error answer in the shape of Salesforce's REST API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class SoqlError(RefusedError):
    """A query is refused, with the position of the mistake, as Salesforce shows it."""

    def __init__(self, code: str, message: str, soql: str = "", column: int = 0) -> None:
        if soql:
            start = max(0, column - 40)
            excerpt = soql[start : column + 40]
            caret = " " * (column - start) + "^"
            message = f"\n{excerpt}\n{caret}\nERROR at Row:1:Column:{column + 1}\n{message}"
        super().__init__(400, code, message)


def no_column(name: str, entity: str, soql: str, column: int) -> SoqlError:
    return SoqlError(
        "INVALID_FIELD",
        f"No such column '{name}' on entity '{entity}'. If you are attempting to use a custom "
        "field, be sure to append the '__c' after the custom field name. Please reference your "
        "WSDL or the describe call for the appropriate names.",
        soql,
        column,
    )


def no_relation(name: str, soql: str, column: int) -> SoqlError:
    return SoqlError(
        "INVALID_FIELD",
        f"Didn't understand relationship '{name}' in field path. If you are attempting to use a "
        "custom relationship, be sure to append the '__r' after the custom relationship name. "
        "Please reference your WSDL or the describe call for the appropriate names.",
        soql,
        column,
    )


def no_type(name: str, soql: str, column: int) -> SoqlError:
    return SoqlError(
        "INVALID_TYPE",
        f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be "
        "sure to append the '__c' after the entity name. Please reference your WSDL or the "
        "describe call for the appropriate names.",
        soql,
        column,
    )
