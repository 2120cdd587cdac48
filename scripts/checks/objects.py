"""One object a file of sql/, named after it, and loaded where it has to be."""

import re
from pathlib import Path

from . import databases
from .make_migration import outline, statements

CREATE = re.compile(
    r"create (?:or replace )?(function|procedure|table|view|materialized view|type|domain) "
    r"(?:if not exists )?((?:public|credits)\.\w+)"
)
# Of schema credits and of schema public there is one of this name, which cannot both be called after it.
OTHERWISE = {"public.usage_logs": "own_usage_logs"}


def defined(path: Path) -> list[tuple[str, str]]:
    """What a file creates: kind and qualified name. Triggers, policies and indexes follow their table."""
    found = (CREATE.match(outline(statement)) for statement in statements(path.read_text()))
    return [(match[1], match[2]) for match in found if match]


def misplaced(root: Path) -> list[str]:
    """Where files and objects do not belong together, and what to do."""
    root = root.resolve()
    by_hand = {
        (root / "supabase" / name).resolve() for name in databases.schema_paths(root) if "*" not in name
    }
    findings, owners = [], dict[str, Path]()
    for path in sorted((root / "sql").rglob("*.sql")):
        here, objects = path.relative_to(root), defined(path)
        if not objects and path not in by_hand:
            findings.append(
                f"{here} creates no function: list it in schema_paths of supabase/config.toml, after what it "
                "needs; the patterns there load functions."
            )
        for kind, name in objects:
            stem = OTHERWISE.get(name, name.split(".")[1])
            if name in owners:
                findings.append(f"{name} is created in {owners[name]} and in {here}: delete one of them.")
            elif stem != path.stem:
                findings.append(
                    f"{here} creates {name}: give that a file of its own, {stem}.sql, with its grants and "
                    "comments."
                )
            elif kind not in ("function", "procedure") and path not in by_hand:
                findings.append(
                    f"{here} creates a {kind}: list it in schema_paths of supabase/config.toml, after what "
                    "it needs; the patterns there load functions."
                )
            owners.setdefault(name, here)
    return findings
