"""Write all errors and warnings of segxai and its plugins: their wording, read in one place."""

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("segxai", "plugins")


def messages() -> str:
    """Return the messages of each file in the order of the source; what a run fills in is in {}."""
    blocks = []
    for path in sorted(path for folder in FOLDERS for path in Path(folder).rglob("*.py")):
        lines = list(dict.fromkeys(_messages_in(ast.parse(path.read_text()))))
        if lines:
            blocks.append("\n".join([path.as_posix(), *(f"    {line}" for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def _messages_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and _says(node.func) and node.args:
        text = _template(node.args[0])
        if not text.startswith("{") or " " in text.partition("}")[2]:
            yield text.replace("\n", "\\n")
    for child in ast.iter_child_nodes(node):
        yield from _messages_in(child)


def _says(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "warn" or (name.endswith("Error") and not hasattr(builtins, name))


def _template(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="option"), args=[name, *_])):
            return f"<{ast.literal_eval(name)}>" if isinstance(name, ast.Constant) else "<option>"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _template(left) + _template(right)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
    return f"{{{ast.unparse(node)}}}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(messages())
