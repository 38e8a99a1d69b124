"""Functions and methods that expressions may call; docs/pipelines.md lists them."""

#: Built-in functions.
FUNCTIONS = frozenset(
    {"abs", "all", "any", "bool", "dict", "enumerate", "float", "int", "len", "list", "max", "min"}
    | {"range", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"}
)

#: Methods of texts, lists and mappings that change nothing.
METHODS = frozenset(
    {"capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum"}
    | {"isalpha", "isdigit", "isspace", "items", "join", "keys", "lower", "lstrip", "partition"}
    | {"removeprefix", "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip"}
    | {"split", "splitlines", "startswith", "strip", "title", "upper", "values", "zfill"}
)

#: Functions that take `key=lambda row: ...`.
KEYED = frozenset({"max", "min", "sorted"})

#: Names that stand for no node, with what they are.
ROOTS = {
    "inputs": "what the edges into this node bring",
    "trigger": "the input of the execution",
    "nodes": "the results of the nodes before this one, by id",
    "execution": "the execution's id, pipeline, version and start",
}

MOST_CHARACTERS = 4_000
MOST_DEPTH = 80
