"""A client that submits batches as fast as it can, as a process of its own.

    batch_client.py ADDRESS FILE COUNT IN_FLIGHT

Sends the BatchCreateJobsRequest in FILE so many times and prints the calls per second.
"""

import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import grpc

METHOD = "/jobservice.v1.JobService/BatchCreateJobs"


def submit(address: str, request: bytes, count: int, in_flight: int) -> float:
    """Calls per second, from the first call to the last answer."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(METHOD)
        grpc.channel_ready_future(channel).result(timeout=30)
        free = threading.Semaphore(in_flight)
        begin = time.perf_counter()
        futures: deque[Any] = deque()
        for _ in range(count):
            free.acquire()
            future = call.future(request)
            future.add_done_callback(lambda _: free.release())
            futures.append(future)
        for each in futures:
            each.result()
        return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    rate = submit(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), int(sys.argv[4]))
    print(f"{rate:.3f}")
