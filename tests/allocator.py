"""What a step takes of the CPU's memory, counted by torch's allocator."""

from torch.profiler import ProfilerActivity, profile


def peak_bytes(step) -> int:
    """The most bytes that the allocator held at a time, beyond those before the step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
