"""Where every thread and task of this process stands, for whoever looks into one that hangs."""

import asyncio
import sys
import threading
import traceback


def all_stacks() -> str:
    """Stacks of all threads, then of the tasks of the running loop. Places in the code, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, '?')} ({ident})\n{stack}")
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name()):
        coroutine = getattr(task.get_coro(), "__qualname__", "?")
        places = traceback.StackSummary.extract([(f, f.f_lineno) for f in task.get_stack()])
        parts.append(f"task {task.get_name()} ({coroutine})\n{''.join(places.format())}")
    return "\n".join(parts)
