"""Named tuples of arrays and records that compiled code passes by reference.

Numba passes a named tuple of arrays by value, every length and stride of every array on its own: 165 values for a
State, at each of a thousand calls, and two thirds of the code that LLVM had to read.  A reference is one address, of
the places and lengths of the arrays.  They lie on the stack of the entry; there LLVM takes them apart again, as
nothing else knows the address.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_cast, lower_getattr_generic, register_model
from numba.np.numpy_support import as_dtype

from llmsched_env.compiler.kinds import Lent, Reference
from llmsched_env.compiler.parts import jit_is_off

_ADDRESS = ir.IntType(8).as_pointer()


def _structure(dmm: Any, inner: types.NamedTuple) -> ir.LiteralStructType:
    """What a reference points to: of every array the address and the lengths, of every record the address; and the
    address of the copy that is lent."""
    fields = []
    for kind in inner.types:
        if isinstance(kind, types.Array):
            data = dmm.lookup(types.CPointer(kind.dtype)).get_value_type()
            fields.append(ir.LiteralStructType([data, *[ir.IntType(64)] * kind.ndim]))
        else:
            fields.append(dmm.lookup(kind).get_value_type())
    return ir.LiteralStructType([*fields, _ADDRESS])


@register_model(Reference)
@register_model(Lent)
class _ReferenceModel(models.PrimitiveModel):
    """A pointer."""

    def __init__(self, dmm: Any, fe_type: Reference) -> None:
        super().__init__(dmm, fe_type, ir.PointerType(_structure(dmm, fe_type.inner)))


@infer_getattr
class _ReferenceAttributes(AttributeTemplate):
    """The fields of the tuple, by their names."""

    key = Reference

    def generic_resolve(self, reference: Any, name: str) -> Any:  # type: ignore[override]
        inner = reference.inner
        return inner[inner.fields.index(name)] if name in inner.fields else None


@lower_getattr_generic(Reference)
def _load_field(context: Any, builder: Any, reference: Reference, address: Any, name: str) -> Any:
    """A field; it owns nothing, so nothing is counted."""
    at = reference.inner.fields.index(name)
    kind = reference.inner.types[at]
    if not isinstance(kind, types.Array):
        return builder.load(cgutils.gep_inbounds(builder, address, 0, at))
    words = [builder.load(cgutils.gep_inbounds(builder, address, 0, at, k)) for k in range(1 + kind.ndim)]
    return _view(context, builder, kind, words[0], words[1:])


@lower_cast(Reference, Lent)
def _lend(context: Any, builder: Any, source: Reference, target: Lent, address: Any) -> Any:
    """The address of the copy."""
    copy = builder.load(cgutils.gep_inbounds(builder, address, 0, len(source.inner.types)))
    return builder.bitcast(copy, context.get_value_type(target))


@lower_cast(Lent, Reference)
def _use_lent(context: Any, builder: Any, source: Lent, target: Reference, address: Any) -> Any:
    """The address itself."""
    return address


def _view(context: Any, builder: Any, kind: types.Array, data: Any, lengths: list[Any]) -> Any:
    """The contiguous array of type ``kind`` at ``data`` with axes of these ``lengths``, field by field as
    numba.core.datamodel.models.ArrayModel lists them."""
    value_type = context.get_value_type(kind)
    size = ir.Constant(ir.IntType(64), as_dtype(kind.dtype).itemsize)
    strides = [size]
    for length in reversed(lengths[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    count = lengths[0]
    for length in lengths[1:]:
        count = builder.mul(count, length)
    nothing = [ir.Constant(kind, None) for kind in value_type.elements[:2]]
    rest = [ir.Constant(kind, ir.Undefined) for kind in value_type.elements[4:]]
    value = ir.Constant(value_type, [*nothing, ir.Constant(ir.IntType(64), ir.Undefined), size, *rest])
    value = builder.insert_value(value, count, 2)
    value = builder.insert_value(value, data, 4)
    for axis, (length, stride) in enumerate(zip(lengths, strides, strict=True)):
        value = builder.insert_value(value, length, (5, axis))
        value = builder.insert_value(value, stride, (6, axis))
    return value


def _store_field(builder: Any, address: Any, at: int, kind: types.Type, field: Any) -> None:
    """Write field number ``at``, of type ``kind``, of what lies at ``address``."""
    if not isinstance(kind, types.Array):
        builder.store(field, cgutils.gep_inbounds(builder, address, 0, at))
        return
    words = [builder.extract_value(field, 4), *(builder.extract_value(field, (5, axis)) for axis in range(kind.ndim))]
    for k, word in enumerate(words):
        builder.store(word, cgutils.gep_inbounds(builder, address, 0, at, k))


if jit_is_off():

    def by_reference(value):
        """The tuple itself."""
        return value

else:

    @intrinsic
    def by_reference(typing_context, value):
        """The named tuple ``value`` of borrowed arrays, by reference; for the function that calls this, and below."""

        def codegen(context, builder, signature, arguments):
            """Its place on the stack, and that of the copy."""
            inner = signature.args[0]
            places = [cgutils.alloca_once(builder, _structure(context.data_model_manager, inner)) for _ in range(2)]
            for address in places:
                for at, kind in enumerate(inner.types):
                    _store_field(builder, address, at, kind, builder.extract_value(arguments[0], at))
                copy = builder.bitcast(places[1], _ADDRESS)
                builder.store(copy, cgutils.gep_inbounds(builder, address, 0, len(inner.types)))
            return places[0]

        return Reference(value)(value), codegen
