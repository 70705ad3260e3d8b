"""Runs the code blocks of a page of documentation, top to bottom, in one namespace."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from statejobs import StateJobs

_FENCE = re.compile(
    r"^( *)(`{3,})(\S*) *([^\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL
)
_NEEDS = re.compile(r"\bneeds=([\w,]+)")
_FILE = re.compile(r"\A# ([\w/]+\.py)\n")
_RUNS = {"alembic", "pytest"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line on which the text begins."""

    language: str
    text: str
    line: int
    needs: tuple[str, ...] = ()
    """Packages that only this block needs; it is left out where one is not installed."""

    @property
    def can_run(self) -> bool:
        """Whether what it needs is installed."""
        return all(importlib.util.find_spec(name) for name in self.needs)


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    source = page.read_text()
    return [
        Block(
            language=found[3],
            text=found[5],
            line=source.count("\n", 0, found.start(5)) + 1,
            needs=tuple(needed[1].split(","))
            if (needed := _NEEDS.search(found[4]))
            else (),
        )
        for found in _FENCE.finditer(source)
    ]


class PageRun:
    """One page, run in the current directory.

    A `python` block is executed; when an `output` block follows, its print must equal that. One
    that begins with `# name.py` is written to that file instead. Of a `console` block the commands
    `alembic` and `pytest` are run; what it shows of them must be true.
    """

    def __init__(self, page: Path) -> None:
        self.page = page
        self.namespace = {"__name__": "__main__"}

    def run(self) -> None:
        """Run every block; an error names the page and the line."""
        blocks = blocks_of(self.page)
        try:
            for block, following in zip(blocks, [*blocks[1:], None], strict=True):
                if not block.can_run:
                    continue
                if block.language == "python":
                    expected = (
                        following
                        if following and following.language == "output"
                        else None
                    )
                    self._run_python(block, expected)
                elif block.language == "console":
                    self._run_console(block)
        finally:
            self._close()

    def _run_python(self, block: Block, expected: Block | None) -> None:
        if named := _FILE.match(block.text):
            Path(named[1]).write_text(block.text)
            return
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.namespace)
        if expected is not None:
            self._compare(expected, printed.getvalue(), expected.text)

    def _run_console(self, block: Block) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            words = shlex.split(command, comments=True)
            if words[0] in _RUNS:
                said = self._call(block, words)
                if shown.strip():
                    self._compare(block, said, shown)

    def _call(self, block: Block, words: list[str]) -> str:
        command = [sys.executable, "-m", *words]
        here = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **here},
        )
        assert ran.returncode == 0, (
            f"{self.page}:{block.line}\n{ran.stdout}{ran.stderr}"
        )
        return ran.stdout

    def _compare(self, block: Block, said: str, shown: str) -> None:
        assert said.strip() == shown.strip(), (
            f"{self.page}:{block.line} shows something else"
        )

    def _close(self) -> None:
        for value in list(self.namespace.values()):
            if isinstance(value, StateJobs):
                value.engine.dispose()
