"""A gRPC server that fails as each call asks it to, in a process of its own that can be killed.

It answers every RPC of `SERVICES`. A call's metadata says what becomes of it: `PLAN` is a list of steps as JSON, the
first for the first attempt, the last for all further ones; `KEY` names the call over all its attempts. What the server
saw of them it tells over an RPC of its own. Run by `FaultyServer`, or `python tests/faulty_server.py PORT`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.protobuf import duration_pb2, message_factory, wrappers_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

sys.path.insert(0, str(Path(__file__).parent))

from fakes import trial_contract
from service_process import ROOT, free_offset

KEY, PLAN = "trial-key", "trial-plan"
SERVICES = (
    metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"],
    traces_pb2.DESCRIPTOR.services_by_name["TraceService"],
    trial_contract.load(),
)
_CONTROL = "/trial.Control/Attempts"
_FIRST_PORT = 8000
_MOST_ATTEMPTS = 100_000
_SECONDS_TO_START = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one attempt, in this order.

    Attributes:
        delay: Seconds before anything is answered.
        answers: How many answers a stream of the server has; a stream in both directions answers each request.
        deaf: Whether it fails before it has read what a client streams.
        hang: Whether it then never ends by itself.
        crash: Whether the server's process then ends as by SIGKILL.
        code: With which status it then fails; empty: it succeeds.
        retry_after: Seconds for RetryInfo; None: there is none.
    """

    delay: float = 0.0
    answers: int = 1
    deaf: bool = False
    hang: bool = False
    crash: bool = False
    code: str = ""
    retry_after: float | None = None


ANSWER, HANG, CRASH = Step(), Step(hang=True, answers=0), Step(crash=True, answers=0)


def fail(code: str, retry_after: float | None = None, answers: int = 0) -> Step:
    """A failure, of a stream after some answers."""
    return Step(answers=answers, code=code, retry_after=retry_after)


@dataclass(slots=True)
class Attempt:
    """What the server saw of one attempt.

    Attributes:
        method: Its path.
        began: When, in monotonic seconds of the machine.
        time_remaining: What the client gave it, in seconds; None: no limit.
        requests: How many arrived.
        ended: "answered", "failed" or "cancelled"; empty: it is under way.
    """

    method: str
    began: float
    time_remaining: float | None
    requests: int = 0
    ended: str = ""


class _Calls:
    """The attempts so far, by key."""

    def __init__(self) -> None:
        self._attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        self._count = 0
        self._changed = asyncio.Condition()

    async def begin(self, method: str, context: Any) -> tuple[Step, int, Attempt]:
        metadata = dict(context.invocation_metadata() or ())
        attempts = self._attempts[metadata.get(KEY, "")]
        left = context.time_remaining()
        attempt = Attempt(method, time.monotonic(), left if left is not None and left < 1e6 else None)
        self._count += 1
        if self._count > _MOST_ATTEMPTS:
            await context.abort(grpc.StatusCode.ABORTED, "A test has made too many calls.")
        attempts.append(attempt)
        await self._tell()
        plan = json.loads(metadata.get(PLAN, "[{}]"))
        return Step(**plan[min(len(attempts), len(plan)) - 1]), len(attempts), attempt

    async def end(self, attempt: Attempt, how: str) -> None:
        attempt.ended = how
        await self._tell()

    async def seen(self, request: bytes, context: Any) -> bytes:
        """The attempts of a key, once there are as many as asked for, and as many have ended."""
        asked = json.loads(request)
        attempts = self._attempts[asked["key"]]
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    len(attempts) >= asked["at_least"]
                    and sum(bool(attempt.ended) for attempt in attempts) >= asked["ended"]
                )
            )
        return json.dumps([dataclasses.asdict(attempt) for attempt in attempts]).encode()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _answer(method: MethodDescriptor, request: Message | None, number: int) -> Message:
    """An answer that says which attempt it is of, as far as its type can."""
    answer = message_factory.GetMessageClass(method.output_type)()
    match answer:
        case wrappers_pb2.StringValue():
            answer.value = f"{number}:{getattr(request, 'value', '')}"
        case metrics_pb2.QueryMetricsResponse():
            answer.series.add(labels={"attempt": str(number)})
        case metrics_pb2.WatchMetricsResponse():
            answer.result.series.add(labels={"attempt": str(number)})
        case metrics_pb2.ListMetricsResponse():
            answer.next_page_token = str(number)
        case traces_pb2.Trace():
            answer.trace_id = f"{number:032x}"
    return answer


def _handler(method: MethodDescriptor, calls: _Calls) -> Any:
    path = f"/{method.containing_service.full_name}/{method.name}"
    parse = message_factory.GetMessageClass(method.input_type).FromString
    options = (parse, message_factory.GetMessageClass(method.output_type).SerializeToString)

    async def act(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        step, number, attempt = await calls.begin(path, context)
        try:
            await asyncio.sleep(step.delay)
            last: Message | None = None
            if step.deaf:
                await _abort(context, step)
            if method.client_streaming and method.server_streaming:
                # It reads one request at least, so that the client does not fail with what it has to send.
                for index in range(max(1, step.answers) if step.hang or step.code or step.crash else sys.maxsize):
                    last = await anext(requests, None)
                    if last is None:
                        break
                    attempt.requests += 1
                    if index < step.answers:
                        yield _answer(method, last, number)
            else:
                if not (step.hang and method.client_streaming):
                    async for request in requests:
                        last = request
                        attempt.requests += 1
                for _ in range(step.answers if method.server_streaming else 0):
                    yield _answer(method, last, number)
            if step.crash:
                os.kill(os.getpid(), signal.SIGKILL)
            if step.hang:
                await asyncio.Event().wait()
            if step.code:
                await _abort(context, step)
            if not method.server_streaming:
                yield _answer(method, last, number)
            await calls.end(attempt, "answered")
        except (asyncio.CancelledError, GeneratorExit):
            attempt.ended = "cancelled"
            asyncio.get_running_loop().create_task(calls.end(attempt, "cancelled"))
            raise
        except grpc.aio.AbortError:
            await calls.end(attempt, "failed")
            raise

    async def one(request: Message) -> AsyncIterator[Message]:
        yield request

    async def unary_unary(request: Message, context: Any) -> Message:
        return await stream_unary(one(request), context)

    async def stream_unary(requests: AsyncIterator[Message], context: Any) -> Message:
        (answer,) = [answer async for answer in act(requests, context)]
        return answer

    async def unary_stream(request: Message, context: Any) -> AsyncIterator[Message]:
        async for answer in act(one(request), context):
            yield answer

    match method.client_streaming, method.server_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(unary_unary, *options)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(stream_unary, *options)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(unary_stream, *options)
        case _:
            return grpc.stream_stream_rpc_method_handler(act, *options)


async def _abort(context: Any, step: Step) -> None:
    trailers = []
    code = grpc.StatusCode[step.code]
    if step.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(step.retry_after * 1e9))
        status = status_pb2.Status(code=code.value[0], message="as planned")
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        trailers.append(("grpc-status-details-bin", status.SerializeToString()))
    await context.abort(code, "as planned", tuple(trailers))


async def _serve(port: int) -> None:
    server, calls = grpc.aio.server(options=(("grpc.so_reuseport", 0),)), _Calls()
    for service in SERVICES:
        handlers = {method.name: _handler(method, calls) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    _, control, name = _CONTROL.split("/")
    seen = {name: grpc.unary_unary_rpc_method_handler(calls.seen)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(control, seen),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


class FaultyServer:
    """The server as a child process. `start` may be called again after `kill`: the port stays, the attempts go.

    Attributes:
        target: Its host and port.
    """

    def __init__(self) -> None:
        self._port = _FIRST_PORT + free_offset(_FIRST_PORT)
        self.target = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._port)], cwd=ROOT, stdin=subprocess.DEVNULL
        )
        ends = time.monotonic() + _SECONDS_TO_START
        # Its own pool: a channel that saw the port closed waits longer and longer before it tries again.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100))
        with grpc.insecure_channel(self.target, options) as channel:
            while True:
                if self._process.poll() is not None or time.monotonic() > ends:
                    raise AssertionError(f"the faulty server did not start; its exit code is {self._process.poll()}")
                try:
                    channel.unary_unary(_CONTROL)(_question("", 0, 0), timeout=1, wait_for_ready=True)
                except grpc.RpcError:
                    continue
                return

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, within: float = 10.0) -> None:
        """Returns when it has crashed."""
        assert self._process is not None
        self._process.wait(within)

    def seen(self, key: str, at_least: int = 0, ended: int = 0, within: float = 10.0) -> list[Attempt]:
        """What the server saw of a call.

        Args:
            key: The call's.
            at_least: Waits for so many attempts.
            ended: Waits until so many of them have ended.
            within: Waits so many seconds at most.

        Raises:
            AssertionError: It did not come to that in time.
        """
        with grpc.insecure_channel(self.target, (("grpc.use_local_subchannel_pool", 1),)) as channel:
            try:
                answer = channel.unary_unary(_CONTROL)(_question(key, at_least, ended), timeout=within)
            except grpc.RpcError as error:
                raise AssertionError(f"no {at_least} attempts of which {ended} ended within {within} s") from error
        return [Attempt(**attempt) for attempt in json.loads(answer)]


def _question(key: str, at_least: int, ended: int) -> bytes:
    return json.dumps({"key": key, "at_least": at_least, "ended": ended}).encode()


@dataclass(frozen=True, slots=True)
class Planned:
    """A call and what becomes of its attempts: `stub(request, metadata=planned.metadata)`.

    Attributes:
        key: Names the call at the server.
        steps: One an attempt; the last for all further ones.
    """

    key: str
    steps: Sequence[Step]

    @classmethod
    def of(cls, *steps: Step) -> Planned:
        """A call under a new name."""
        return cls(uuid.uuid4().hex, steps)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What tells the server."""
        return ((KEY, self.key), (PLAN, json.dumps([dataclasses.asdict(step) for step in self.steps])))


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
