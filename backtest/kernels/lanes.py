"""Several numbers in one processor register, for the few loops that a compiler leaves scalar.

A sum over the legs of an account, a strict sum over accounts or a look-up in a table is not
vectorised by itself. Written with lanes it is, on every processor: LLVM splits a group of 32
numbers into whatever registers there are. Every operation is the plain IEEE one, lane by lane,
so the bits do not depend on the processor. For use in compiled functions only; places in arrays
are flat, unsigned and unchecked.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numba.np.arrayobj import make_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ir: Any = cgutils.ir
"""The builder of LLVM code that numba itself uses."""
_DOUBLE = ir.DoubleType()
_INT = ir.IntType(64)
_INDEX = ir.IntType(32)
_NARROW = 8
"""Lanes of the widest register in use today; its conditions are bytes."""


LANES = 8
"""Accounts that the loop works on at a time; sums over accounts are kept apart by it."""


class Lanes(types.Type):
    """The type of ``width`` numbers, a power of two from 8 on, worked on at once."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(f"Lanes({width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_DOUBLE, lanes.width))


def _order(places: Iterable[int]) -> Any:
    listed = list(places)
    return ir.Constant(ir.VectorType(_INDEX, len(listed)), listed)


def _spread(builder: Any, number: Any, width: int) -> Any:
    """Copy a number into every lane."""
    nothing = ir.Constant(ir.VectorType(number.type, width), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, nothing, _order([0] * width))


def _part(builder: Any, vector: Any, first: int, count: int) -> Any:
    return builder.shuffle_vector(vector, vector, _order(range(first, first + count)))


def _halved(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine the lower half with the upper until one number is left."""
    width = vector.type.count
    while width > 1:
        width //= 2
        vector = combine(_part(builder, vector, 0, width), _part(builder, vector, width, width))
    return builder.extract_element(vector, ir.Constant(_INDEX, 0))


def _data(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    return builder.gep(make_array(array_type)(context, builder, array).data, [at])


@intrinsic(prefer_literal=True)
def zeros(_typing: Any, width: Any) -> Any:
    """Return ``width`` zeros. A width is always known when compiling."""
    lanes = Lanes(width.literal_value)

    def emit(context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(context.get_value_type(lanes), [0.0] * lanes.width)

    return lanes(width), emit


@intrinsic(prefer_literal=True)
def load(_typing: Any, array: Any, at: Any, width: Any) -> Any:
    """Return ``array[at : at + width]``."""
    lanes = Lanes(width.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _data(context, builder, signature.args[0], args[0], args[1])
        place = builder.bitcast(place, context.get_value_type(lanes).as_pointer())
        return builder.load(place, align=8)

    return lanes(array, types.uint64, width), emit


@intrinsic
def store(_typing: Any, array: Any, at: Any, lanes: Any) -> Any:
    """Set ``array[at : at + width]``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _data(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(place, args[2].type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(array, types.uint64, lanes), emit


@intrinsic(prefer_literal=True)
def gather(_typing: Any, table: Any, base: Any, rows: Any, at: Any, width: Any) -> Any:
    """Return ``table[base + rows[at + k]]`` for every ``k < width``.

    One load per lane: on the processors at hand that beats their gathering instruction.
    """
    lanes = Lanes(width.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        numbers = _data(context, builder, signature.args[0], args[0], args[1])
        first = _data(context, builder, signature.args[2], args[2], args[3])
        gathered = ir.Constant(context.get_value_type(lanes), ir.Undefined)
        for k in range(lanes.width):
            row = builder.load(builder.gep(first, [ir.Constant(_INDEX, k)]))
            number = builder.load(builder.gep(numbers, [row]))
            gathered = builder.insert_element(gathered, number, ir.Constant(_INDEX, k))
        return gathered

    return lanes(table, types.uint64, rows, types.uint64, width), emit


def _lanewise(apply: Callable[[Any, Any, Any], Any]) -> Any:
    def declare(_typing: Any, one: Any, two: Any) -> Any:
        return one(one, two), lambda _context, builder, _signature, args: apply(builder, *args)

    return intrinsic(declare)


_added = _lanewise(lambda builder, one, two: builder.fadd(one, two))
_multiplied = _lanewise(lambda builder, one, two: builder.fmul(one, two))


@intrinsic(prefer_literal=True)
def spread(_typing: Any, number: Any, width: Any) -> Any:
    """Return a number in each of ``width`` lanes."""
    lanes = Lanes(width.literal_value)

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _spread(builder, args[0], lanes.width)

    return lanes(types.float64, width), emit


@overload(operator.add)
def _add(one: Any, two: Any) -> Any:
    def add(one: Any, two: Any) -> Any:
        return _added(one, two)

    return add if isinstance(one, Lanes) and one == two else None


@overload(operator.mul)
def _multiply(one: Any, two: Any) -> Any:
    def multiply(one: Any, two: Any) -> Any:
        return _multiplied(one, two)

    return multiply if isinstance(one, Lanes) and one == two else None


@intrinsic
def magnitude(_typing: Any, lanes: Any) -> Any:
    """Return the absolute values."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        whole = ir.VectorType(_INT, lanes.width)
        mask = ir.Constant(whole, [2**63 - 1] * lanes.width)
        return builder.bitcast(builder.and_(builder.bitcast(args[0], whole), mask), args[0].type)

    return lanes(lanes), emit


@intrinsic
def where(_typing: Any, condition: Any, one: Any, two: Any) -> Any:
    """Return the lanes ``one`` if the condition holds, else ``two``, without a branch.

    A branch that no processor can foresee costs more than both sides together.
    """

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        # By way of a byte of equal bits, for of a plain condition LLVM would make a branch, and
        # register by register, for a condition on 32 lanes it would put together and take apart.
        byte = builder.sext(args[0], ir.IntType(_NARROW))
        mask = builder.bitcast(byte, ir.VectorType(ir.IntType(1), _NARROW))
        parts = [
            builder.select(mask, *(_part(builder, side, first, _NARROW) for side in args[1:]))
            for first in range(0, one.width, _NARROW)
        ]
        while len(parts) > 1:
            both = _order(range(2 * parts[0].type.count))
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [builder.shuffle_vector(*pair, both) for pair in pairs]
        return parts[0]

    return one(types.boolean, one, two), emit


@intrinsic
def where_negative(_typing: Any, lanes: Any, one: Any, two: Any) -> Any:
    """Return lane by lane ``one`` where a number is below zero, else ``two``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, [0.0] * lanes.width)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), args[1], args[2])

    return lanes(lanes, one, two), emit


@intrinsic
def all_at_most(_typing: Any, one: Any, two: Any) -> Any:
    """Tell whether no number of ``one`` is above its neighbour in ``two``, or NaN."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        above = builder.bitcast(builder.fcmp_unordered(">", *args), ir.IntType(one.width))
        return builder.icmp_unsigned("==", above, ir.Constant(above.type, 0))

    return types.boolean(one, two), emit


@intrinsic
def lowest(_typing: Any, lanes: Any) -> Any:
    """Return the lowest number; NaN if all are."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def least(one: Any, two: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", two, one), two, one)

        return _halved(builder, args[0], least)

    return types.float64(lanes), emit


@intrinsic
def total(_typing: Any, lanes: Any) -> Any:
    """Return the sum: upper half onto lower half, until one number is left."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _halved(builder, args[0], builder.fadd)

    return types.float64(lanes), emit


@intrinsic
def first_equal(_typing: Any, lanes: Any, number: Any) -> Any:
    """Return the first lane that holds a number; ``width`` if none does."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        equal = builder.fcmp_ordered("==", args[0], _spread(builder, args[1], lanes.width))
        bits = builder.zext(builder.bitcast(equal, ir.IntType(lanes.width)), _INT)
        bits = builder.or_(bits, ir.Constant(_INT, 1 << lanes.width))
        return builder.cttz(bits, ir.Constant(ir.IntType(1), 1))

    return types.int64(lanes, types.float64), emit
