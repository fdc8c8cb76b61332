"""Rows of the API's own table: each kind belongs to one module, or two would read each other's."""

import ast
import re
from collections import defaultdict

from tests.kit.sources import sources

_KIND = re.compile(rb"[a-z]/")


def test_each_kind_of_row_belongs_to_one_module() -> None:
    users: defaultdict[bytes, set[str]] = defaultdict(set)
    for source in sources("query_api"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and _KIND.match(node.value):
                users[node.value[:2]].add(source.path)
    assert len(users) > 15, "the search finds them"
    assert {kind: names for kind, names in users.items() if len(names) > 1} == {}
