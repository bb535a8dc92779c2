"""Compiled kernels of the least squares over segments: one pixel, all groups of all integrations.

`services.darkref.combine.segments` says what is solved and why; this is how. With c[g] the number of segments
that contain group g, and the mean of their values there, every S[g] follows from the levels: it is that mean
minus the mean of the levels. What remains is a system with an equation for each segment, not for each group:
ten integrations with three hits make 13 equations, whatever the number of groups. Its matrix is the Laplacian
of the segments, each pair linked by the sum of 1/c over the groups that both contain, from which the level of
one segment is taken to be 0; it is factorised by Cholesky.
"""

import math

import numpy as np

from shared.nircam.dq import UNUSABLE_GROUP_FLAGS, GroupFlag
from shared.statistics.jit import kernel

#: Pixels whose samples are brought together at a time.
BLOCK = 32
#: Codes of a group: it continues its segment, begins a new one, or is not used.
CONTINUES, BEGINS, UNUSED = 0, 1, 2
#: Planes that `fit_pixels` returns beside the ramp.
RATE, SHARE, MISFIT, VARIANCE, RATE_RATE, RATE_SHARE, SHARE_SHARE, SLOPE, FITTED = range(9)
PLANES = 9
#: Rows of `sums`: of 1, t, t^2, c, c^2 and t c over the groups before each.
_N, _T, _TT, _C, _CC, _TC = range(6)
#: Rows of the scratch array of groups.
_COVER, _LINKS, _MEAN, _SCI, _PULL, _WEIGHT, _SUM, _SQUARE, _LARGEST, _GEOMETRY = range(10)
_SCRATCH = 10

_JUMP = int(GroupFlag.JUMP_DET)
_UNUSABLE = int(UNUSABLE_GROUP_FLAGS | GroupFlag.PERSISTENCE)

#: Fewest integrations of which one can be told to differ.
_FEWEST = 3
#: Widths of a difference from which on it is looked at; see `_looks_odd`.
_GATE = 4.0
#: The median distance of two Gaussian values, in standard deviations of one.
_DISTANCE_OF_TWO = 0.9538726
#: The scatter of the differences of a pixel is not below that of numbers rounded to whole DN.
_LEAST_WIDTH = math.sqrt(2 / 12)
#: Least part of the scatter that is white; see `_white_variance`.
_LEAST_WHITE = 0.02


@kernel
def fit_pixels(  # type: ignore[no-untyped-def]
    signal,
    quality,
    sums,
    curve,
    gain,
    shared_flags,
    step_limit,
    most_unknown,
    skip,
    pixels,
    mean,
    error,
    n_valid,
    planes,
    tally,
):
    """Fit some pixels of a band; see `services.darkref.combine.segments.SegmentFit`."""
    n, ngroups = signal.shape[:2]
    values = np.empty((BLOCK, n, ngroups))
    codes = np.empty((BLOCK, n, ngroups), np.uint8)
    odd = np.empty((BLOCK, n), np.uint8)
    scratch = np.empty((_SCRATCH, ngroups + 1))
    segments = np.empty((n + most_unknown, 3), np.int64)
    matrix = np.empty((most_unknown, most_unknown))
    levels = np.empty((2, most_unknown))
    for start in range(pixels[0], pixels[1], BLOCK):
        stop = min(start + BLOCK, pixels[1])
        _gather(signal, quality, start, stop, values, codes, odd)
        for p in range(stop - start):
            at = start + p
            if skip[at]:
                tally[3] += 1
                continue
            y, code = values[p], codes[p]
            if odd[p].any():
                _forgive(code, shared_flags)
            used, reached = _cut(code, odd[p], segments, scratch)
            steps, falls = 0, 0
            if used > 0 and n >= _FEWEST and _looks_odd(y, segments, used, scratch, reached):
                steps, falls = _mark_steps(y, code, scratch, reached, step_limit)
                if steps > 0:
                    odd[p] = 1
                    used, reached = _cut(code, odd[p], segments, scratch)
            unknown = _to_the_front(segments, used, reached)
            # Charge does not fall: falls are no hits, but those of a pixel with levels of its own.
            if used < 0 or falls > 1 or unknown > most_unknown:
                tally[3] += 1
                continue
            _nothing(code, at, mean, error, n_valid, planes)
            if used > 0:
                squares = _solve(y, segments, used, unknown, reached, scratch, matrix, levels)
                _store(
                    squares,
                    segments,
                    used,
                    reached,
                    scratch,
                    sums,
                    curve,
                    gain,
                    at,
                    mean,
                    error,
                    n_valid,
                    planes,
                )
            tally[0] += 1
            tally[1] += steps
            tally[2] += used > n


@kernel
def _gather(signal, quality, start, stop, values, codes, odd):  # type: ignore[no-untyped-def]
    # The samples of a pixel lie a plane apart: some pixels side by side are brought together at once. `odd`
    # says which integrations of which pixels have anything but groups that continue.
    odd[:] = 0
    for i in range(signal.shape[0]):
        for g in range(signal.shape[1]):
            row, flags = signal[i, g, start:stop], quality[i, g, start:stop]
            for p in range(stop - start):
                value, flag = row[p], flags[p]
                used = ((flag & _UNUSABLE) == 0) & (abs(value) < np.inf)
                code = np.uint8((flag & _JUMP) != 0) if used else np.uint8(UNUSED)
                values[p, i, g] = value if used else 0.0
                codes[p, i, g] = code
                odd[p, i] |= code


@kernel
def _forgive(code, shared_flags):  # type: ignore[no-untyped-def]
    # Flags of so many integrations in the same group are no hits, but what the pixel, or its neighbour, does.
    for g in range(code.shape[1]):
        flagged = 0
        for i in range(code.shape[0]):
            flagged += code[i, g] == BEGINS
        if flagged >= shared_flags:
            for i in range(code.shape[0]):
                if code[i, g] == BEGINS:
                    code[i, g] = CONTINUES


@kernel
def _cut(code, odd, segments, scratch):  # type: ignore[no-untyped-def]
    """Cut the integrations into segments of two groups or more; return how many, and the groups they reach.

    Groups g-1 and g are linked by the segments that contain both. As segments have no holes, the first pair
    of groups without a link ends what is connected to group 0; what comes later is left out. -1 segments are
    more than there is room for.
    """
    n, ngroups = code.shape
    cover, links = scratch[_COVER], scratch[_LINKS]
    cover[:] = 0
    links[:] = 0
    count = 0
    for i in range(n):
        start = -1
        at = ngroups if odd[i] == 0 else 0
        if odd[i] == 0:
            start = 0
        for g in range(at, ngroups + 1):
            if start >= 0 and (g == ngroups or code[i, g] != CONTINUES):
                if g - start > 1:
                    if count == segments.shape[0]:
                        return -1, 0
                    segments[count, 0], segments[count, 1], segments[count, 2] = i, start, g
                    count += 1
                start = -1
            if start < 0 and g < ngroups and code[i, g] != UNUSED:
                start = g
    for k in range(count):
        links[segments[k, 1] + 1 : segments[k, 2]] += 1
    reached = 1
    while reached < ngroups and links[reached] > 0:
        reached += 1
    links[reached:] = 0
    kept = 0
    for k in range(count):
        if segments[k, 1] < reached - 1:
            segments[kept] = segments[k]
            cover[segments[k, 1] : segments[k, 2]] += 1
            kept += 1
    return kept, reached


@kernel
def _looks_odd(y, segments, used, scratch, reached):  # type: ignore[no-untyped-def]
    """Return whether some difference stands out of the scatter of the pixel's differences.

    One odd value among few widens the scatter itself: with f degrees of freedom it is root(f) widths off, and
    not more. Half of that is looked at, so that several do not hide each other.
    """
    total, square, largest, links = scratch[_SUM], scratch[_SQUARE], scratch[_LARGEST], scratch[_LINKS]
    total[:] = 0
    square[:] = 0
    largest[:] = 0
    for k in range(used):
        i, start, stop = segments[k]
        row, sums = y[i, start:stop], total[start:stop]
        for g in range(1, stop - start):
            sums[g] += row[g] - row[g - 1]
    for g in range(1, reached):
        total[g] /= links[g]
    for k in range(used):
        i, start, stop = segments[k]
        row, centre = y[i, start:stop], total[start:stop]
        squares, most_squared = square[start:stop], largest[start:stop]
        for g in range(1, stop - start):
            distance = row[g] - row[g - 1] - centre[g]
            squares[g] += distance * distance
            most_squared[g] = max(most_squared[g], distance * distance)
    freedom, scatter, most = 0.0, 0.0, 0.0
    for g in range(1, reached):
        freedom += links[g] - 1
        scatter += square[g]
        most = max(most, largest[g])
    gate = min(_GATE, 0.5 * math.sqrt(freedom))
    return freedom > 0 and most > gate * gate * scatter / freedom


@kernel
def _mark_steps(y, code, scratch, reached, step_limit):  # type: ignore[no-untyped-def]
    """Let a segment begin at each step that nobody flagged; return how many, and how many go down.

    A step is a difference that is `step_limit` standard deviations from the median of its group over the
    integrations. The standard deviation is that of all differences of the pixel, from the median distance of
    two integrations in a group, which few steps cannot widen.
    """
    n = y.shape[0]
    links = scratch[_LINKS]
    distances = np.empty(n * reached)
    centres = np.full(reached, np.nan)
    here = np.empty(n)
    count = 0
    for g in range(1, reached):
        found = 0
        for i in range(n):
            if code[i, g] == CONTINUES and code[i, g - 1] != UNUSED:
                here[found] = y[i, g] - y[i, g - 1]
                if found > 0:
                    distances[count] = abs(here[found] - here[found - 1])
                    count += 1
                found += 1
        if links[g] >= _FEWEST:
            distances[count] = abs(here[found - 1] - here[0])
            count += 1
            centres[g] = np.median(here[:found])
    width = max(np.median(distances[:count]) / _DISTANCE_OF_TWO, _LEAST_WIDTH)
    steps, falls = 0, 0
    for i in range(n):
        before = code[i, 0]
        for g in range(1, reached):
            now = code[i, g]
            if now == CONTINUES and before != UNUSED:
                off = y[i, g] - y[i, g - 1] - centres[g]
                # Without a centre, no comparison is True.
                if abs(off) > step_limit * width:
                    code[i, g] = BEGINS
                    steps += 1
                    falls += off < 0
            before = now
    return steps, falls


@kernel
def _nothing(code, at, mean, error, n_valid, planes):  # type: ignore[no-untyped-def]
    mean[:, at] = 0
    error[:, at] = 0
    n_valid[:, at] = 0
    planes[:, at] = np.nan
    planes[FITTED, at] = 1
    for i in range(code.shape[0]):
        n_valid[0, at] += code[i, 0] != UNUSED


@kernel
def _solve(y, segments, used, unknown, reached, scratch, matrix, levels):  # type: ignore[no-untyped-def]
    """Fill the rows of SCI, its geometry and its pull; return the squares about the segment means.

    The geometry is the variance of S[g] - S[0] for white noise of unit variance. The pull is the right-hand
    side of the normal equations of S: the sum over segments of the values minus their segment's mean.
    """
    cover, mean, sci = scratch[_COVER], scratch[_MEAN], scratch[_SCI]
    pull, weight, geometry = scratch[_PULL], scratch[_WEIGHT], scratch[_GEOMETRY]
    square = scratch[_SQUARE]
    mean[:reached] = 0
    pull[:reached] = 0
    square[:reached] = 0
    about = 0.0
    for k in range(used):
        i, start, stop = segments[k]
        size = stop - start
        row, total, squares = y[i, start:stop], mean[start:stop], square[start:stop]
        # Counted from the segment's first value, so that no digits cancel in the sums.
        first = row[0]
        for g in range(size):
            row[g] -= first
            total[g] += row[g]
            squares[g] += row[g] * row[g]
        centre = _sum(row) / size
        about += centre * centre * size
        pull[start:stop] -= centre
    for g in range(reached):
        pull[g] += mean[g]
    weight[0] = 0
    for g in range(reached):
        mean[g] /= cover[g]
        weight[g + 1] = weight[g] + 1 / cover[g]
    sci[:reached] = mean[:reached]
    geometry[:reached] = 2 / cover[0]
    if unknown > 0:
        _solve_levels(y, segments, unknown, scratch, weight, matrix, levels[0])
        _spread_levels(segments, unknown, reached, scratch, matrix, levels[0], levels[1])
    first = sci[0]
    for g in range(reached):
        sci[g] -= first
    geometry[0] = 0
    return _sum(square[:reached]) - about


@kernel
def _sum(row):  # type: ignore[no-untyped-def]
    # Four sums at a time: each waits for its own last addition only.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = row.size // 4 * 4
    for g in range(0, whole, 4):
        a += row[g]
        b += row[g + 1]
        c += row[g + 2]
        d += row[g + 3]
    for g in range(whole, row.size):
        a += row[g]
    return (a + b) + (c + d)


@kernel
def _to_the_front(segments, used, reached):  # type: ignore[no-untyped-def]
    """Bring those segments to the front whose levels are unknowns, and return their number.

    Whole ones only matter as their mean, whose level is taken to be 0. Without any, it is the level of a
    segment that begins in group 0.
    """
    unknown = 0
    for k in range(used):
        if segments[k, 2] - segments[k, 1] < reached:
            _swap(segments, k, unknown)
            unknown += 1
    if unknown < used:
        return unknown
    for k in range(used):
        if segments[k, 1] == 0:
            _swap(segments, k, used - 1)
            break
    return used - 1


@kernel
def _swap(segments, one, other):  # type: ignore[no-untyped-def]
    for column in range(3):
        kept = segments[one, column]
        segments[one, column] = segments[other, column]
        segments[other, column] = kept


@kernel
def _solve_levels(y, segments, unknown, scratch, weight, matrix, level):  # type: ignore[no-untyped-def]
    mean = scratch[_MEAN]
    for k in range(unknown):
        i, start, stop = segments[k]
        total = 0.0
        for g in range(start, stop):
            total += y[i, g] - mean[g]
        level[k] = total
        for other in range(k + 1):
            low, high = max(start, segments[other, 1]), min(stop, segments[other, 2])
            matrix[k, other] = weight[low] - weight[high] if low < high else 0.0
        matrix[k, k] += stop - start
    _factorise(matrix, unknown)
    _forward(matrix, level, unknown)
    for k in range(unknown - 1, -1, -1):
        value = level[k]
        for other in range(k + 1, unknown):
            value -= matrix[other, k] * level[other]
        level[k] = value / matrix[k, k]


@kernel
def _factorise(matrix, size):  # type: ignore[no-untyped-def]
    # Cholesky, in place, in the lower triangle.
    for row in range(size):
        for column in range(row + 1):
            value = matrix[row, column]
            for k in range(column):
                value -= matrix[row, k] * matrix[column, k]
            matrix[row, column] = math.sqrt(value) if row == column else value / matrix[column, column]


@kernel
def _forward(matrix, right, size):  # type: ignore[no-untyped-def]
    for row in range(size):
        value = right[row]
        for k in range(row):
            value -= matrix[row, k] * right[k]
        right[row] = value / matrix[row, row]


@kernel
def _spread_levels(segments, unknown, reached, scratch, matrix, level, row):  # type: ignore[no-untyped-def]
    cover, sci, geometry = scratch[_COVER], scratch[_SCI], scratch[_GEOMETRY]
    changes = scratch[_SUM]
    changes[:] = 0
    for k in range(unknown):
        start, stop = segments[k, 1], segments[k, 2]
        changes[start] = 1
        changes[stop] = 1
        for g in range(start, stop):
            sci[g] -= level[k] / cover[g]
    through_levels = 0.0
    for g in range(1, reached):
        # Between two groups with the same segments nothing changes.
        if changes[g] or cover[g] != cover[g - 1] or g == 1:
            for k in range(unknown):
                row[k] = 0.0
                if segments[k, 1] <= g < segments[k, 2]:
                    row[k] += 1 / cover[g]
                if segments[k, 1] == 0:
                    row[k] -= 1 / cover[0]
            _forward(matrix, row, unknown)
            through_levels = 0.0
            for k in range(unknown):
                through_levels += row[k] * row[k]
        geometry[g] = 1 / cover[g] + 1 / cover[0] + through_levels


@kernel
def _store(  # type: ignore[no-untyped-def]
    squares, segments, used, reached, scratch, sums, curve, gain, at, mean, error, n_valid, planes
):
    """Store the ramp, and the line and settling curve that are fitted to it with the covariance of S."""
    sci, links, geometry = scratch[_SCI], scratch[_LINKS], scratch[_GEOMETRY]
    ngroups = mean.shape[0]
    values, walk, fit = _sums_over_segments(segments, used, reached, scratch[_PULL], sums, curve)
    explained = 0.0
    for g in range(reached):
        explained += sci[g] * scratch[_PULL, g]
    freedom = values - used - (reached - 1)
    scatter = max(squares - explained, 0.0)
    rate, share, normal = _line(fit, sums[_CC, ngroups] > 0)
    # Poisson noise of the pixel's own charge, DN^2 a group.
    poisson = max(rate, 0.0) / gain if math.isfinite(rate) else 0.0
    pooled = scatter / freedom if freedom > 0 else math.nan
    white = _white_variance(pooled, poisson * walk * (1 - reached / values), freedom)
    charge = 0.0
    for g in range(reached):
        mean[g, at] = sci[g]
        if g > 0:
            n_valid[g, at] = links[g]
            charge += poisson / links[g]
            error[g, at] = math.sqrt(white * geometry[g] + charge) if freedom > 0 else 0.0
    planes[SLOPE, at] = _slope(sci, reached)
    planes[RATE, at] = rate
    planes[VARIANCE, at] = white
    if reached == ngroups:
        parameters = 2 if sums[_CC, ngroups] > 0 else 1
        planes[SHARE, at] = share
        planes[RATE_RATE, at], planes[RATE_SHARE, at], planes[SHARE_SHARE, at] = normal
        left = explained - rate * fit[3] - share * fit[4]
        overall = _sigmas_of_ratio(left, ngroups - 1 - parameters, pooled, freedom)
        planes[MISFIT, at] = max(overall, _largest_residual(scratch, curve, rate, share, pooled))


@kernel
def _slope(sci, reached):  # type: ignore[no-untyped-def]
    # Of the straight line through the groups that are reached, each with the same weight.
    middle = (reached - 1) / 2
    total = 0.0
    for g in range(reached):
        total += (g - middle) * sci[g]
    return total * 12 / (reached * (reached * reached - 1.0))


@kernel
def _sums_over_segments(segments, used, reached, pull, sums, curve):  # type: ignore[no-untyped-def]
    """Return the sums that the fits take, each about the segment's mean.

    They are the number of values; the expected squares of a random walk of unit steps, (n^2 - 1) / 6 for n
    groups; and of time t, curve c and values y: tt, tc, cc, ty, cy.
    """
    values, walk = 0, 0.0
    tt, tc, cc, ty, cy = 0.0, 0.0, 0.0, 0.0, 0.0
    middle = (len(curve) - 1) / 2
    for k in range(used):
        start, stop = segments[k, 1], segments[k, 2]
        size = stop - start
        t, c = sums[_T, stop] - sums[_T, start], sums[_C, stop] - sums[_C, start]
        values += size
        walk += (size * size - 1) / 6
        tt += sums[_TT, stop] - sums[_TT, start] - t * t / size
        tc += sums[_TC, stop] - sums[_TC, start] - t * c / size
        cc += sums[_CC, stop] - sums[_CC, start] - c * c / size
    for g in range(reached):
        ty += (g - middle) * pull[g]
        cy += curve[g] * pull[g]
    return values, walk, (tt, tc, cc, ty, cy)


@kernel
def _line(fit, with_curve):  # type: ignore[no-untyped-def]
    tt, tc, cc, ty, cy = fit
    determinant = tt * cc - tc * tc
    if not with_curve:
        return ty / tt, 0.0, (1 / tt, 0.0, 0.0)
    if determinant <= 1e-9 * tt * cc:
        return math.nan, math.nan, (math.nan, math.nan, math.nan)
    rate, share = (cc * ty - tc * cy) / determinant, (tt * cy - tc * ty) / determinant
    return rate, share, (cc / determinant, -tc / determinant, tt / determinant)


@kernel
def _white_variance(pooled, walked, freedom):  # type: ignore[no-untyped-def]
    """Return the variance of one value without the Poisson noise, which is counted by itself.

    Where Poisson noise is nearly all, the difference of the two is uncertain; a part of the scatter always
    counts as white.
    """
    if freedom <= 0:
        return math.nan
    return max(pooled - walked / freedom, _LEAST_WHITE * pooled)


@kernel
def _sigmas_of_ratio(left, freedom, pooled, pooled_freedom):  # type: ignore[no-untyped-def]
    """Return how many sigma the misfit of the model is above the scatter of the integrations.

    The ratio of the two variances follows an F distribution; Paulson's approximation (1942, Annals of
    Mathematical Statistics 13, 233) makes it a Gaussian. NaN where there is nothing to compare.
    """
    if freedom < 1 or pooled_freedom < 1 or not pooled > 0:
        return math.nan
    root = math.pow(max(left / freedom / pooled, 0.0), 1 / 3)
    a, b = 2 / (9 * freedom), 2 / (9 * pooled_freedom)
    return ((1 - b) * root - (1 - a)) / math.sqrt(b * root * root + a)


@kernel
def _largest_residual(scratch, curve, rate, share, pooled):  # type: ignore[no-untyped-def]
    """Return how many sigma the worst group of the ramp is from the model, for its chance among so many.

    The largest of G Gaussian values is beyond z with G times the chance of each, which falls as exp(-z^2 /
    2): it counts as root(z^2 - 2 ln G) sigma.
    """
    sci, cover = scratch[_SCI], scratch[_COVER]
    ngroups = len(curve)
    total, weight = 0.0, 0.0
    for g in range(ngroups):
        total += cover[g] * (sci[g] - rate * g - share * curve[g])
        weight += cover[g]
    worst = 0.0
    for g in range(ngroups):
        off = sci[g] - rate * g - share * curve[g] - total / weight
        worst = max(worst, off * off * cover[g])
    return math.sqrt(max(worst / pooled - 2 * math.log(ngroups), 0.0)) if pooled > 0 else math.nan
