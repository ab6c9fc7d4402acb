"""Expressions as people type them: parsed once to a tree, evaluated on a machine, or compiled for the translation.

tokens.py cuts the text, parser.py makes the tree (tree.py, types.py), evaluation.py computes it, bytecode.py and
condition.py make a breakpoint's condition of it, assignment.py stores to what may stand on the left of `=`.
"""

from dbgvmm.debug.expressions.assignment import assign
from dbgvmm.debug.expressions.condition import ExpressionCondition
from dbgvmm.debug.expressions.evaluation import evaluate
from dbgvmm.debug.expressions.names import Names, Values
from dbgvmm.debug.expressions.parser import parse
from dbgvmm.debug.expressions.tokens import ExpressionError
from dbgvmm.debug.expressions.tree import Node
from dbgvmm.debug.expressions.types import IntType, PointerType, Type

__all__ = [
    "ExpressionCondition",
    "ExpressionError",
    "IntType",
    "Names",
    "Node",
    "PointerType",
    "Type",
    "Values",
    "assign",
    "evaluate",
    "parse",
]
