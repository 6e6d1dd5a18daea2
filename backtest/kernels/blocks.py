"""Blocks: named arrays that a kernel is handed as one pointer.

The event loop works on more than a hundred arrays. Handed on as arguments, each array is seven
machine values at every call, and compiling those lists took far longer than compiling what the
functions do. A block is one pointer to a table that holds, for each name, where the array lies
and how long it is. Inside a kernel ``world.state.cash[0, account]`` reads as if the block were
a named tuple of arrays; an array is loaded where it is named, so a loop binds what it uses
before it begins.

The Python object keeps its arrays alive while a kernel runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    unbox,
)

_SCALAR = {"f": types.float64, "i": types.int64, "w": types.int32, "b": types.int8}
_NUMPY = {"f": np.float64, "i": np.int64, "w": np.int32, "b": np.int8}
_COLUMNS = 4
"""Of the table: address, then up to three lengths."""


class BlockType(types.Type):
    """The numba type of a block: field names with their types, in order.

    A type is written as ``f2``: float64 with two dimensions; ``i``, ``w`` and ``b`` are integers
    of 64, 32 and 8 bits, no dimension is a number. A capital means that kernels may not write.
    """

    def __init__(self, name: str, fields: dict[str, str | BlockType]) -> None:
        self.fields = dict(fields)
        self.places = {field: k for k, field in enumerate(fields)}
        spelled = ",".join(f"{k}:{v if isinstance(v, str) else v.name}" for k, v in fields.items())
        super().__init__(name=f"{name}({spelled})")

    def typeof(self, field: str) -> types.Type:
        """Return the numba type of one field: an array, a number (``f0``) or a block."""
        kind = self.fields[field]
        if isinstance(kind, BlockType):
            return kind
        scalar, dimensions = _SCALAR[kind[0].lower()], int(kind[1])
        if not dimensions:
            return scalar
        return types.Array(scalar, dimensions, "C", readonly=kind[0].isupper())


register_model(BlockType)(models.OpaqueModel)


@infer_getattr
class _BlockAttributes(AttributeTemplate):
    key = BlockType

    def generic_resolve(self, block: BlockType, field: str) -> types.Type | None:
        return block.typeof(field) if field in block.fields else None


@lower_getattr_generic(BlockType)
def _load_field(context: Any, builder: Any, block: BlockType, value: Any, field: str) -> Any:
    word = context.get_value_type(types.int64)
    table = builder.bitcast(value, word.as_pointer())
    first = block.places[field] * _COLUMNS

    def entry(column: int) -> Any:
        place = builder.gep(table, [context.get_constant(types.intp, first + column)])
        return builder.load(place)

    kind = block.typeof(field)
    if isinstance(kind, BlockType):
        return builder.inttoptr(entry(0), cgutils.voidptr_t)
    if not isinstance(kind, types.Array):
        data = context.get_value_type(kind).as_pointer()
        return builder.load(builder.inttoptr(entry(0), data))
    array = context.make_array(kind)(context, builder)
    item = context.get_constant(
        types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype))
    )
    shape = [entry(1 + k) for k in range(kind.ndim)]
    strides = [item]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    count = shape[0]
    for length in shape[1:]:
        count = builder.mul(count, length)
    array.data = builder.inttoptr(entry(0), context.get_data_type(kind.dtype).as_pointer())
    array.shape = cgutils.pack_array(builder, shape)
    array.strides = cgutils.pack_array(builder, strides)
    array.nitems = count
    array.itemsize = item
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    array.parent = cgutils.get_null_value(array.parent.type)
    return array._getvalue()


class Block:
    """Named arrays, numbers and blocks, laid out for a kernel.

    Parameters
    ----------
    kind
        The block's type.
    values
        One per field of ``kind``: a C-contiguous array of the declared type and dimensions, a
        number for ``f0`` fields, or a `Block`.

    Raises
    ------
    TypeError
        If a value does not have the declared type, number of dimensions or layout.
    """

    def __init__(self, kind: BlockType, values: dict[str, Any]) -> None:
        if set(values) != set(kind.fields):
            odd = sorted(set(values) ^ set(kind.fields))
            raise TypeError(f"a block of type {kind.name} got other fields: {', '.join(odd)}.")
        self.kind = kind
        self._kept = {}
        self._table = np.zeros((len(kind.fields), _COLUMNS), np.int64)
        for place, (field, declared) in enumerate(kind.fields.items()):
            value = values[field]
            if isinstance(declared, str):
                if declared[1] == "0":
                    value = np.array([value], dtype=_NUMPY[declared[0].lower()])
                elif not (
                    value.dtype == _NUMPY[declared[0].lower()]
                    and value.ndim == int(declared[1])
                    and value.flags.c_contiguous
                ):
                    raise TypeError(
                        f"block field {field} is {value.dtype} with {value.ndim} dimensions; "
                        f"it must be {declared}, C-contiguous."
                    )
                self._table[place, 0] = value.ctypes.data
                if declared[1] != "0":
                    self._table[place, 1 : 1 + value.ndim] = value.shape
            else:
                self._table[place, 0] = value.address
            self._kept[field] = value

    def __getattr__(self, field: str) -> Any:
        """Return a field's array or block."""
        try:
            return self.__dict__["_kept"][field]
        except KeyError:
            raise AttributeError(field) from None

    @property
    def address(self) -> int:
        """Where the table lies."""
        return int(self._table.ctypes.data)

    @property
    def _numba_type_(self) -> BlockType:
        return self.kind


@unbox(BlockType)
def _unbox_block(kind: BlockType, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    number = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    pointer = c.builder.inttoptr(number, cgutils.voidptr_t)
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))
