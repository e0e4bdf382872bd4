"""The agent stays readable in one sitting, and every part keeps its hands off the others'."""

import ast
import io
import json
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "dqnrec_lite").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
AGENT = (
    "config", "sessions", "replay", "nstep", "targets", "networks", "updates", "dqn", "checkpoint",
)  # fmt: skip
MOST, SCREEN = 840, 50  # lines of code: of the agent, and of one function
DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module
SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def docstring_lines(tree: ast.AST) -> set[int]:
    """Numbers of the lines of all docstrings, those below the fields of a class too."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS):
            for part in node.body:
                text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
                if text and isinstance(part.value.value, str):
                    lines |= set(range(part.lineno, part.end_lineno + 1))
    return lines


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: no docstring, no comment, no blank."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(ast.parse(source))


def test_lines_of_code_are_counted_as_a_reader_would():
    lines = [
        '"""Of a', 'module."""', "", "x = 1  # why", "# alone", "class A:", "    n: int = 0",
        '    """It."""', "    def f(self):", '        """Two', '        lines."""',
        "        return '''a", "b'''",
    ]  # fmt: skip
    source = "\n".join(lines)
    assert code_lines(source) == {4, 6, 7, 9, 12, 13}


def test_the_agent_has_at_most_840_lines_of_code():
    counts = {
        name: len(code_lines((ROOT / "dqnrec_lite" / f"{name}.py").read_text())) for name in AGENT
    }
    assert sum(counts.values()) <= MOST, counts


def test_no_function_is_longer_than_a_screen():
    long = []
    for path in PACKAGE:
        source = path.read_text()
        code = code_lines(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                count = len(code & set(range(node.lineno, node.end_lineno + 1)))
                if count > SCREEN:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count}")
    assert not long, "\n".join(long)


def others_underscores(source: str) -> list[str]:
    """Where code touches a name with one underscore that is not its own, as `line: name`."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own:
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.startswith("dqnrec_lite"):
                names = [alias.name for alias in node.names if private(alias.name)]
                found += [f"{node.lineno}: {name} of {module}" for name in names]
    return found


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_checks"


@pytest.mark.parametrize(
    ("source", "count"),
    [("self._x = cls._y", 0), ("agent._x()", 1), ("from dqnrec_lite.dqn import _three", 1),
     ("step._replace(reward=0); Step._fields", 2), ("a.__len__()", 0)],
)  # fmt: skip
def test_hands_on_others_names_are_found(source, count):
    assert len(others_underscores(source)) == count


PUBLIC = ("_replace", "_fields", "_asdict")  # of named tuples: documented, underscore and all


def offences(source: str) -> list[str]:
    """Those that the source does not define itself."""
    tree = ast.walk(ast.parse(source))
    own = tuple(f".{node.name}" for node in tree if isinstance(node, DEFINITIONS[:2]))
    return [one for one in others_underscores(source) if not one.endswith(PUBLIC + own)]


def test_no_module_uses_anothers_underscore_names():
    found = [f"{p.relative_to(ROOT)}:{one}" for p in PACKAGE for one in offences(p.read_text())]
    assert not found, "\n".join(found)


def test_notebooks_use_public_names_only():
    found = []
    for path in NOTEBOOKS:
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] != "code":
                continue
            lines = "".join(cell["source"]).splitlines()
            source = "\n".join("pass" if line[:1] in ("%", "!") else line for line in lines)
            found += [f"{path.name}, cell {number}, line {one}" for one in offences(source)]
    assert not found, "\n".join(found)
