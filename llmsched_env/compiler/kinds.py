"""Types of the arguments of parts: one version of a part serves all that Numba would tell apart."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.typeconv import Conversion


class Reference(types.Type):
    """The address of a named tuple of type ``inner`` of records and of contiguous arrays, which are borrowed."""

    def __init__(self, inner: types.NamedTuple) -> None:
        self.inner = inner
        super().__init__(name=f"{type(self).__name__}({inner})")

    def can_convert_to(self, typing_context: Any, other: types.Type) -> Conversion | None:
        """A reference and what is lent become each other."""
        return Conversion.safe if isinstance(other, Reference) and other.inner == self.inner else None


class Lent(Reference):
    """The same for a function that is called and not inlined: the address of a copy.

    LLVM takes a tuple on the stack apart where it knows of every use; one whose address goes out stays in memory.
    """


def wide(kind: Any) -> Any:
    """The type of an argument as a part takes it: no constant, and every signed whole number 64 bits long."""
    kind = types.unliteral(kind)
    if kind in types.signed_domain:
        return types.int64
    if isinstance(kind, types.Tuple | types.UniTuple):
        return types.Tuple(tuple(wide(each) for each in kind))
    return Reference(kind.inner) if isinstance(kind, Lent) else kind


def lent(kind: Any) -> Any:
    """The same for a part that is not inlined."""
    return Lent(kind.inner) if isinstance(kind, Reference) else wide(kind)
