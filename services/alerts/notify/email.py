"""E-mail, by the configured mail host. `Message-ID` is the same in every attempt at a notification."""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from services.alerts.config import MailConfig
from services.alerts.model import EmailTarget
from services.alerts.notify.delivery import DeliveryError
from services.alerts.notify.text import body, subject

_THREADS = 4


class EmailSender:
    """Tells people by mail. `smtplib` blocks, so that it runs in a few threads of its own.

    Args:
        timeout: Seconds for a whole attempt.
    """

    def __init__(self, config: MailConfig, timeout: float) -> None:
        self._config = config
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="alert-mail")

    async def send(self, target: EmailTarget, key: str, payload: Mapping[str, Any], at: datetime) -> None:
        """See `TargetSender`."""
        message = self._message(target, key, payload, at)
        ends = time.monotonic() + self._timeout
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._send, message, list(target.to), ends)

    async def close(self) -> None:
        """Begins nothing more; what is being sent ends within its timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _message(self, target: EmailTarget, key: str, payload: Mapping[str, Any], at: datetime) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._config.sender
        message["To"] = ", ".join(target.to)
        message["Subject"] = subject(payload)
        message["Date"] = format_datetime(at)
        message["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@airis.alerts>"
        message["X-Airis-Idempotency-Key"] = key
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body(payload))
        return message

    def _send(self, message: EmailMessage, to: list[str], ends: float) -> None:
        try:
            with self._connect(ends) as connection:
                if self._config.username:
                    connection.login(self._config.username, self._config.password.get_secret_value())
                refused = connection.send_message(message, self._config.sender, to)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise DeliveryError(
                f"the mail host refused all addresses ({codes[0]})", permanent=min(codes) >= 500
            ) from error
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(
                f"the mail host answered {error.smtp_code}", permanent=error.smtp_code >= 500
            ) from error
        except TimeoutError as error:
            raise DeliveryError("the mail host did not answer in time") from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"the mail host was not reached: {type(error).__name__}") from error
        if refused:
            # Those that were taken have it; another attempt would send it to them again.
            raise DeliveryError(f"the mail host refused {len(refused)} of {len(to)} addresses", permanent=True)

    @contextmanager
    def _connect(self, ends: float) -> Iterator[smtplib.SMTP]:
        """A connection that is cut off when the attempt's time is over, whatever is said over it then: `smtplib` limits
        single answers only, and what went on afterwards would be sent a second time by the next attempt."""
        config, left = self._config, ends - time.monotonic()
        if left <= 0:
            # It waited for a thread.
            raise TimeoutError
        # For the connection, and for the host's greeting.
        if config.security == "tls":
            context = ssl.create_default_context()
            connection: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=left / 2, context=context)
        else:
            connection = smtplib.SMTP(config.host, config.port, timeout=left / 2)
        is_over = threading.Event()

        def cut_off() -> None:
            is_over.set()
            opened = connection.sock
            if opened is not None:
                # `close` would not end a wait in another thread, and TLS would have a last word.
                with suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, ends - time.monotonic()), cut_off)
        timer.start()
        try:
            with connection:
                if connection.sock is not None:
                    # From here on the timer is what ends it.
                    connection.sock.settimeout(self._timeout)
                if config.security == "starttls":
                    connection.starttls(context=ssl.create_default_context())
                    if is_over.is_set():
                        # In the handshake there was nothing to cut off.
                        raise TimeoutError
                yield connection
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException):
            raise
        except (smtplib.SMTPException, OSError) as error:
            if is_over.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
