"""Keys of the read model's store: what one module keeps nobody else reads as its own."""

import re
from collections import defaultdict
from pathlib import Path

import query_api

PREFIX = re.compile(r"""\bf?b?f?"([a-z])/""")


def test_no_two_modules_keep_rows_under_one_prefix() -> None:
    home = Path(query_api.__path__[0])
    modules: defaultdict[str, set[str]] = defaultdict(set)
    for module in (*sorted((home / "projections").glob("*.py")), home / "event_log.py", home / "read_model.py"):
        for prefix in PREFIX.findall(module.read_text()):
            modules[prefix].add(module.name)
    assert {prefix: names for prefix, names in modules.items() if len(names) > 1} == {}
    assert set("acdehlmnorsuvwxy") <= modules.keys(), "the pattern finds them"
