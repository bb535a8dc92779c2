"""What is in memory at once stays within its bound, whatever the frame and the threads asked for."""

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.memory_plan import LEAST_RUN, plan_stream

MIB = 1024**2


@given(st.sampled_from([(2048, 2048), (640, 640), (320, 320), (256, 2048), (64, 64)]), st.integers(1, 16))
def test_the_runs_of_all_threads_fit(size, threads):
    # When a plan is made, Then the runs that are worked on at a time, and three groups beside each, at
    # 10 bytes for each pixel and group, are within 640 MiB
    plan = plan_stream(*size, threads)
    of_a_group = size[0] * size[1] * 10
    assert (max(plan.groups, LEAST_RUN) + 3) * of_a_group * plan.threads <= 640 * MIB
    # And as many threads are started as were asked for, or as fit
    assert plan.threads == threads or (LEAST_RUN + 3) * of_a_group * (plan.threads + 1) > 640 * MIB
