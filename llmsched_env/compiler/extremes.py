"""``min`` and ``max`` of two numbers inside of parts, in two instructions.

Numba compiles both as functions, for every mixture of types of their arguments: 19 functions in a run of the engine
`batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import ir
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import guard
from numba.extending import intrinsic


def _extreme(sign: str) -> Callable:
    """The one of two numbers of which ``number sign other`` holds, the first one of equals, as Python has it."""

    @intrinsic
    def found(typing_context, first, second):
        """The less or the greater number."""
        kinds = [types.unliteral(kind) for kind in (first, second)]
        if not all(isinstance(kind, types.Integer | types.Float) for kind in kinds):
            return None
        result = typing_context.unify_types(*kinds)

        def codegen(context, builder, signature, arguments):
            """A comparison and a choice."""
            pairs = zip(arguments, signature.args, strict=True)
            best, other = (context.cast(builder, *pair, result) for pair in pairs)
            if isinstance(result, types.Float):
                is_better = builder.fcmp_ordered(sign, other, best)
            else:
                compare = builder.icmp_signed if result.signed else builder.icmp_unsigned
                is_better = compare(sign, other, best)
            return builder.select(is_better, other, best)

        return result(first, second), codegen

    return found


EXTREMES = {min: _extreme("<"), max: _extreme(">")}


@register_pass(mutates_CFG=False, analysis_only=False)
class UseExtremes(FunctionPass):
    """The pass that puts them in place of Numba's."""

    _name = "use_extremes"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Look at all calls with two arguments."""
        changed = False
        for block in state.func_ir.blocks.values():
            for call in block.find_exprs("call"):
                named = guard(state.func_ir.get_definition, call.func)
                if isinstance(named, ir.Global) and named.value in (min, max) and len(call.args) == 2:
                    named.value = EXTREMES[named.value]
                    changed = True
        return changed
