"""All tasks by name, and how often training draws them: the harder ones more often."""

from ..sample import Task
from .calls import call, extract
from .code import code
from .decide import decide
from .edits import edit
from .fim import fim
from .letters import letter
from .needles import needle, rag
from .records import csv, html, json
from .sql import sql
from .tools import tool
from .words import copy, reverse, spell

_ALL: tuple[Task, ...] = (
    copy,
    reverse,
    spell,
    json,
    csv,
    html,
    tool,
    code,
    fim,
    letter,
    sql,
)
TASKS: dict[str, Task] = {task.__name__: task for task in _ALL}
WEIGHTS = dict.fromkeys(TASKS, 1.0) | {
    "json": 2.0,
    "fim": 2.5,
    "copy": 2.0,
    "spell": 2.0,
    "sql": 2.0,
    "html": 0.5,
    "letter": 0.5,
}

# Names of any kind; the bundled pair learned them last (``train --open``).
OPEN_TASKS: dict[str, Task] = {"extract": extract, "call": call}
OPEN_WEIGHTS = WEIGHTS | {"extract": 10.0, "call": 12.0}

# What the bundled pair learned after that (``train --mixture late``): edits of a draft, facts in a
# long text, closed questions.
LATE_TASKS: dict[str, Task] = {"edit": edit, "needle": needle, "rag": rag, "decide": decide}
LATE_WEIGHTS = OPEN_WEIGHTS | {"extract": 6.0, "call": 8.0, "edit": 40.0, "needle": 6.0}

GROUPS = {"eleven": TASKS, "open": OPEN_TASKS, "late": LATE_TASKS}
"""Tasks that are asked for and reported together."""
EVERY_TASK = TASKS | OPEN_TASKS | LATE_TASKS
MIXTURES = {"eleven": WEIGHTS, "open": OPEN_WEIGHTS, "late": LATE_WEIGHTS}
"""How often a stage of training draws each task."""
