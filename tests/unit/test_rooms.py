"""Imports between the rooms point one way."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "nmt", "captioning", "scripts")  # each may import from itself and from those before it
FILES = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]


def imported_rooms(source: str) -> set[str]:
    """The rooms that a module imports from, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the room"
            names.append(node.module or "")
    return {name.split(".")[0] for name in names} & set(ROOMS)


def test_no_room_imports_from_one_after_it():
    wrong = {}
    for path in FILES:
        allowed = ROOMS[: ROOMS.index(path.parts[0]) + 1]
        if later := imported_rooms((ROOT / path).read_text(encoding="utf-8")) - set(allowed):
            wrong[str(path)] = later
    assert len(FILES) > 100 and not wrong


def test_imports_in_functions_count():
    assert imported_rooms("def f():\n    from nmt.model import x\n    import data.pool, torch") == {"nmt", "data"}
