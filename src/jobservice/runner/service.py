"""The service of the runner: its socket, the connection of the newest worker, and its own end.

One worker is served at a time, the one that connected last. What it does not read in time waits in
bounded tables (`reports`), never in a growing buffer. Nothing it sends can end the runner but a
shutdown.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from . import failpoint, limits, log, processes, system
from .attempt import LOST, STOP
from .attempts import Attempts
from .protocol import PROTOCOL, FrameError, FrameReader, Message, encode, parse_keys
from .reactor import IN, OUT, Reactor, Timer

SIGNALS = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_CHILD, _TERMINATE = int(signal.SIGCHLD), int(signal.SIGTERM)


class Identity(NamedTuple):
    """Who this runner is."""

    incarnation: str
    boot_id: str
    software: str


class Connection:
    """One connection of a worker."""

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        on_message: Callable[["Connection", Message], None],
        on_close: Callable[["Connection"], None],
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self.sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._reader = FrameReader()
        self._unsent = bytearray()
        self.greeted = False
        self.is_open = True
        reactor.watch(sock.fileno(), IN, self._ready)

    def _ready(self) -> None:
        if self._unsent:
            self._send_some()
        if not self.is_open:
            return
        try:
            data = self.sock.recv(limits.RECEIVE_BYTES)
            if not data:
                self.close()
                return
            messages = self._reader.feed(data)
        except BlockingIOError:
            return
        except (OSError, FrameError) as error:
            log.say(f"the connection is closed: {error}")
            self.close()
            return
        for message in messages:
            if message is None:
                log.say("a frame that is no JSON object was ignored")
            elif self.is_open:
                self._on_message(self, message)

    def send(self, message: Message) -> None:
        """Send a frame, now or as soon as the worker reads."""
        idle = not self._unsent
        self._unsent += encode(message)
        if idle:
            self._send_some()

    def _send_some(self) -> None:
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        mask = IN | OUT if self._unsent else IN
        self._reactor.watch(self.sock.fileno(), mask, self._ready)

    def is_slow(self) -> bool:
        """Whether the worker has so much unread that more should wait."""
        return len(self._unsent) > limits.BACKLOG_BYTES

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._reactor.unwatch(self.sock.fileno())
            self.sock.close()
            self._on_close(self)


class Service:
    """Binds the parts together and runs the loop."""

    def __init__(
        self,
        reactor: Reactor,
        attempts: Attempts,
        listener: socket.socket,
        identity: Identity,
        idle_s: float,
    ) -> None:
        self.reactor = reactor
        self.attempts = attempts
        self.listener = listener
        self.identity = identity
        self._idle_s = idle_s
        self._connection: Connection | None = None
        self._idle_timer: Timer | None = None
        self._report_timer: Timer | None = None
        self._leaving = False
        self._done = False
        self.upgrade_command: list[str] | None = None
        """Set when another program should take our place."""
        self._signals = system.signal_descriptor(SIGNALS)
        reactor.watch(self._signals, IN, self._take_signals)
        reactor.watch(listener.fileno(), IN, self._accept)

    def run(self) -> None:
        """Serve until it is time to leave, or to be replaced."""
        self.attempts.reap()
        self._consider_leaving()  # nobody may ever come
        while not self._done and self.upgrade_command is None:
            self.reactor.turn(busy=self.attempts.is_waiting())
            self.attempts.launch_some()
            self.attempts.write_journal()
            self._tell()
            self._consider_leaving()

    # --- signals -------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        received = system.read_signals(self._signals)
        senders = [sender for number, sender in received if number == _TERMINATE]
        # A job whose parent we are may say `kill $PPID`: that is none of its business.
        if any(not processes.is_our_descendant(sender) for sender in senders):
            log.say("told to end by SIGTERM: stopping all attempts")
            self._leaving = True
            self.attempts.stop_all(LOST)
        if any(number == _CHILD for number, _ in received):
            self.attempts.reap()

    # --- the connection ------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError as error:
            log.say(f"cannot accept: {error}")
            return
        Connection(self.reactor, sock, self._take, self._closed)

    def _closed(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None

    def _take(self, connection: Connection, message: Message) -> None:
        kind = message.get("type")
        if kind == "hello":
            self._greet(connection)
        elif connection is not self._connection:
            log.say("a message before the hello was ignored")
        elif kind == "start":
            orders = message.get("attempts")
            self.attempts.start(orders if isinstance(orders, list) else ())
        elif kind == "stop":
            self.attempts.stop(parse_keys(message))
        elif kind == "ack":
            self.attempts.acknowledge(parse_keys(message))
        elif kind == "leash":
            self._hold(message.get("until", ""))
        elif kind == "upgrade":
            self._upgrade(message)
        elif kind == "shutdown":
            self._leaving = True
            if message.get("stop_jobs") is True:
                self.attempts.stop_all(STOP)
        else:
            log.say(f"a message of an unknown type was ignored: {kind!r:.100}")

    def _greet(self, connection: Connection) -> None:
        former, self._connection = self._connection, connection
        if former is not None and former is not connection:
            former.close()
        self._leaving = False
        connection.send(
            {
                "type": "hello",
                "protocol": PROTOCOL,
                "software": self.identity.software,
                "pid": os.getpid(),
                "incarnation": self.identity.incarnation,
                "boot_id": self.identity.boot_id,
                "containment": self.attempts.containment.name,
                "attempts": self.attempts.known(),
            }
        )
        self.attempts.tell_all_again()

    def _hold(self, until: object) -> None:
        if until is None or isinstance(until, int | float):
            self.attempts.leash.hold(until)
        else:
            log.say("a leash without an instant was ignored")

    def _upgrade(self, message: Message) -> None:
        command = message.get("command")
        if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
            self.upgrade_command = command
        else:
            log.say("an upgrade without a command was ignored")

    def _tell(self) -> None:
        connection, reports = self._connection, self.attempts.reports
        while connection is not None and connection.is_open and reports:
            wait_s = reports.wait_s(len(self.attempts.live))
            if wait_s > 0:
                if self._report_timer is None:
                    self._report_timer = self.reactor.after(wait_s, self._time_to_tell)
                return
            if connection.is_slow():
                return
            frame = reports.take_frame()
            connection.send(frame)
            if frame["ended"]:
                failpoint.reach(failpoint.REPORTED_UNACKNOWLEDGED)

    def _time_to_tell(self) -> None:
        self._report_timer = None  # the turn that called us ends with `_tell`

    # --- the end -------------------------------------------------------------------------------

    def _consider_leaving(self) -> None:
        idle = self.attempts.is_idle()
        if idle and self._leaving:
            self._done = True
        elif not idle or self._connection is not None:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
                self._idle_timer = None
        elif self._idle_timer is None:
            self._idle_timer = self.reactor.after(self._idle_s, self._leave)

    def _leave(self) -> None:
        self._done = True

    def close(self) -> None:
        """Let go of the worker and of the socket."""
        if self._connection is not None:
            self._connection.close()
        self.listener.close()

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs; the worker connects again."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.setblocking(True)
            self._connection.close()
        return {
            "listener": self.listener.fileno(),
            "incarnation": self.identity.incarnation,
            "attempts": self.attempts.handover(),
        }
