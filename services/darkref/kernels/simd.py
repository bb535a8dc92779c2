"""Sixteen pixels side by side in the processor's vector registers, for compiled kernels.

Numba makes vectors of plain loops by itself, but what such a loop leaves for the next goes through memory,
and a value that every turn needs is loaded and stored at each. Here a kernel keeps what it works on in
registers, and says so: `load` takes `LANES` neighbouring elements of an array at once, and arithmetic is done
to all of them.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

from services.darkref.sorting import comparators

#: Pixels side by side: of float32, one register of AVX-512, two of AVX2, four of NEON.
LANES = 16
#: So many rows are sorted within registers; with more they would be stored and loaded all the time.
MOST_IN_REGISTERS = 16


class Lanes(types.Type):  # type: ignore[misc]
    """`LANES` values of one type, as numba knows them."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, of: Lanes) -> None:
        bits = {types.boolean: ir.IntType(1), types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
        element = bits.get(of.dtype) or ir.IntType(of.dtype.bitwidth)
        super().__init__(manager, of, ir.VectorType(element, LANES))


def _place(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """Return a pointer to the lanes that begin at an element of a contiguous, 1-D array."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = context.get_value_type(Lanes(array_type.dtype))
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@intrinsic
def load(typing, array, at):  # type: ignore[no-untyped-def]
    """Return the `LANES` elements of a 1-D array from `at` on; all have to be there."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), emit


@intrinsic
def store(typing, array, at, lanes):  # type: ignore[no-untyped-def]
    """Put lanes where `load` would take them from."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = _place(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@intrinsic
def prefetch(typing, array, at):  # type: ignore[no-untyped-def]
    """Let the processor fetch an element of a 1-D array into its cache; it need not be there."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To read, into all caches, data.
        builder.call(fetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def spread(typing, value):  # type: ignore[no-untyped-def]
    """Return lanes that all have one value."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector = context.get_value_type(signature.return_type)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], ir.IntType(32)(0))
        nowhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), nowhere)

    return Lanes(value)(value), emit


def _intrinsic(result: Callable[..., Any], emit: Callable[..., Any], what: str) -> Any:
    """Return an intrinsic that works on each lane by itself."""

    def one(typing, a):  # type: ignore[no-untyped-def]
        return result(a)(a), lambda c, b, s, v: emit(b, *v)

    def two(typing, a, b):  # type: ignore[no-untyped-def]
        return result(a)(a, b), lambda c, b, s, v: emit(b, *v)

    def three(typing, mask, a, b):  # type: ignore[no-untyped-def]
        return a(mask, a, b), lambda c, b, s, v: emit(b, *v)

    function = (one, two, three)[emit.__code__.co_argcount - 2]
    function.__doc__ = what
    return intrinsic(function)


def _mask(_: Lanes) -> Lanes:
    return Lanes(types.boolean)


def _wide(_: Lanes) -> Lanes:
    return Lanes(types.float64)


def _vector(element: Any) -> Any:
    return ir.VectorType(element, LANES)


def _plus(builder: Any, a: Any, b: Any) -> Any:
    return builder.add(a, b) if isinstance(a.type.element, ir.IntType) else builder.fadd(a, b)


def _minus(builder: Any, a: Any, b: Any) -> Any:
    return builder.sub(a, b) if isinstance(a.type.element, ir.IntType) else builder.fsub(a, b)


def _root(builder: Any, a: Any) -> Any:
    kind = ir.FunctionType(a.type, [a.type])
    name = f"llvm.sqrt.v{LANES}f64"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a])


def _size(builder: Any, a: Any) -> Any:
    kind = ir.FunctionType(a.type, [a.type])
    name = f"llvm.fabs.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a])


def _bits(builder: Any, a: Any) -> Any:
    return builder.zext(builder.bitcast(a, ir.IntType(LANES)), ir.IntType(64))


halved = _intrinsic(lambda a: a, lambda b, x: b.ashr(x, x.type([1] * LANES)), "Half an integer, rounded down")
plus = _intrinsic(lambda a: a, _plus, "x + y")
minus = _intrinsic(lambda a: a, _minus, "x - y")
times = _intrinsic(lambda a: a, lambda b, x, y: b.fmul(x, y), "x * y")
over = _intrinsic(lambda a: a, lambda b, x, y: b.fdiv(x, y), "x / y")
below = _intrinsic(_mask, lambda b, x, y: b.fcmp_ordered("<", x, y), "Whether x < y, and neither is NaN")
at_most = _intrinsic(_mask, lambda b, x, y: b.fcmp_ordered("<=", x, y), "Whether x <= y, and neither is NaN")
fewer = _intrinsic(_mask, lambda b, x, y: b.icmp_signed("<", x, y), "Whether x < y, of integers")
equal = _intrinsic(_mask, lambda b, x, y: b.icmp_signed("==", x, y), "Whether x == y, of integers")
either = _intrinsic(_mask, lambda b, x, y: b.or_(x, y), "Whether x or y")
both = _intrinsic(lambda a: a, lambda b, x, y: b.and_(x, y), "Whether x and y")
where = _intrinsic(lambda a: a, lambda b, mask, x, y: b.select(mask, x, y), "x where the mask is, else y")
root = _intrinsic(lambda a: a, _root, "The square root of float64")
size_of = _intrinsic(lambda a: a, _size, "The absolute value of float32")
widened = _intrinsic(_wide, lambda b, x: b.fpext(x, _vector(ir.DoubleType())), "float32 as float64")
floating = _intrinsic(_wide, lambda b, x: b.sitofp(x, _vector(ir.DoubleType())), "int32 as float64")
rounded = _intrinsic(
    lambda a: Lanes(types.float32), lambda b, x: b.fptrunc(x, _vector(ir.FloatType())), "float64 as float32"
)
bits_of = _intrinsic(lambda a: types.int64, _bits, "A mask as a number: its first lane is the lowest bit")


def _let(operation: Callable[..., Any], mean: Any) -> None:
    """Let an operator of Python's do something to lanes."""

    @overload(operation)
    def _operation(a, b):  # type: ignore[no-untyped-def]
        return (lambda a, b: mean(a, b)) if isinstance(a, Lanes) and a == b else None


_let(operator.add, plus)
_let(operator.sub, minus)
_let(operator.mul, times)
_let(operator.truediv, over)


@intrinsic
def sort_lanes(typing, rows, at, step, n):  # type: ignore[no-untyped-def]
    """Sort `n` (at most `MOST_IN_REGISTERS`) rows of float32, `step` elements apart, lane by lane."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, start, apart, number = arguments
        done = builder.append_basic_block("sorted")
        choice = builder.switch(number, done)
        for count in range(2, MOST_IN_REGISTERS + 1):
            block = builder.append_basic_block(f"sort_{count}")
            choice.add_case(number.type(count), block)
            with builder.goto_block(block):
                offsets = [builder.add(start, builder.mul(apart, apart.type(i))) for i in range(count)]
                places = [_place(context, builder, rows, array, at) for at in offsets]
                values = [builder.load(place, align=4) for place in places]
                for low, high in comparators(count):
                    a, b = values[low], values[high]
                    ascending = builder.fcmp_ordered("<", a, b)
                    values[low] = builder.select(ascending, a, b)
                    values[high] = builder.select(ascending, b, a)
                for value, place in zip(values, places, strict=True):
                    builder.store(value, place, align=4)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, types.intp), emit
