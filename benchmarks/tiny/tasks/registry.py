"""All tasks by name; training draws them uniformly."""

from ..sample import Task
from .code import code
from .fim import fim
from .letters import letter
from .records import csv, html, json
from .sql import sql
from .tools import tool
from .words import copy, reverse, spell

_ALL: tuple[Task, ...] = (copy, reverse, spell, json, csv, html, tool, code, fim, letter, sql)
TASKS: dict[str, Task] = {task.__name__: task for task in _ALL}
