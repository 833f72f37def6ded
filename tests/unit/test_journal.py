"""What is particular to the journal: its files, its disk, its memory."""

from __future__ import annotations

import asyncio
import errno
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.shared.bus.adapters import journal_segments
from services.shared.bus.adapters.journal import Journal
from services.shared.bus.adapters.journal_backlog import COLUMNS_BYTES
from services.shared.bus.adapters.journal_framing import encode_header, encode_start
from services.shared.bus.port import Batch, Header, InsertLimits, Position
from services.shared.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)

LIMITS = InsertLimits(max_items=3, max_age=0.001)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


def batch(name: str, payload: bytes = b"payload") -> Batch[bytes]:
    return Batch(Header("default", "airis.test.Batch", 1, 1, name), payload, decode)


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[Journal[bytes]]:
    journal = Journal(directory, decode, **{"limits": LIMITS, **options})
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


async def drain(journal: Journal[bytes]) -> list[str]:
    last = (await journal.committed())[0] + len(journal.uncommitted())
    names = []
    while (await journal.committed())[0] < last:
        insert = await journal.next_insert()
        assert all(each.columns == each.payload for _, each in insert.batches)
        names += [each.header.request_id for _, each in insert.batches]
        await journal.commit(insert)
    return names


def failing(point: str, number: int) -> tuple[Callable[[str], None], Callable[[], None]]:
    """A crash point that raises as a disk would, once it is armed."""
    armed = False

    def crash(name: str) -> None:
        if armed and name == point:
            raise OSError(number, "injected")

    def arm() -> None:
        nonlocal armed
        armed = True

    return crash, arm


async def test_a_second_opening_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(UnavailableError, match="Another process"):
            await Journal(tmp_path, decode).open()
    async with opened(tmp_path):
        pass


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, pathlib; from services.shared.bus.adapters.journal import Journal;"
        "asyncio.run(Journal(pathlib.Path(sys.argv[1]), print).open())"
    )
    async with opened(tmp_path):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(tmp_path)),
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        _, output = await process.communicate()
    assert process.returncode == 1
    assert b"Another process has the journal" in output


async def test_segments_are_deleted_once_all_their_batches_are_committed(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=300) as journal:
        for number in range(12):
            await journal.publish(batch(f"r{number}", b"x" * 200))
        before = len(segments(tmp_path))
        await journal.commit(await journal.next_insert())
        assert 0 < len(segments(tmp_path)) < before
        await drain(journal)
        assert len(segments(tmp_path)) == 1


async def test_positions_go_on_after_all_segments_are_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a"))
        await drain(journal)
    for path in segments(tmp_path):
        path.unlink()
    for expected in (2, 3):
        async with opened(tmp_path) as journal:
            assert await journal.publish(batch("b")) == expected
    async with opened(tmp_path) as journal:
        assert await drain(journal) == ["b", "b"]


async def test_a_committed_segment_that_lost_its_content_does_no_harm(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a"))
        await drain(journal)
    segments(tmp_path)[0].write_bytes(b"")
    async with opened(tmp_path) as journal:
        assert await journal.publish(batch("b")) == 2
    async with opened(tmp_path) as journal:
        assert await drain(journal) == ["b"]


async def test_batches_beyond_the_memory_bound_are_read_again_from_the_files(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=900, max_held_bytes=2 * (COLUMNS_BYTES + 200)) as journal:
        for number in range(5):
            await journal.publish(batch(f"r{number}", bytes([number]) * 200))
        assert journal.held_bytes == 2 * (COLUMNS_BYTES + 200)
        await journal.commit(await journal.next_insert())
        for number in range(5, 12):
            await journal.publish(batch(f"r{number}", bytes([number]) * 200))
        assert journal.held_bytes <= 2 * (COLUMNS_BYTES + 200)
        assert await drain(journal) == [f"r{number}" for number in range(3, 12)]
        assert journal.held_bytes == 0


async def test_a_damaged_frame_before_the_newest_group_is_reported_with_file_and_offset(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for name in "abc":
            await journal.publish(batch(name))
    path = segments(tmp_path)[0]
    content = bytearray(path.read_bytes())
    frame = len(content) // 3
    content[frame + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnavailableError, match=f"{path.name} is damaged at byte {frame}"):
        await Journal(tmp_path, decode).open()
    assert path.read_bytes() == content


async def test_a_short_segment_that_is_not_the_last_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=1) as journal:
        for name in "abc":
            await journal.publish(batch(name))
    first = segments(tmp_path)[0]
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(UnavailableError, match="is damaged at byte 0, batch 1"):
        await Journal(tmp_path, decode).open()


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_missing_segment_is_reported(tmp_path: Path, lost: int) -> None:
    async with opened(tmp_path, segment_bytes=1) as journal:
        for name in "abc":
            await journal.publish(batch(name))
    segments(tmp_path)[lost].unlink()
    with pytest.raises(UnavailableError, match="missing"):
        await Journal(tmp_path, decode).open()


async def test_a_tail_that_an_insert_was_made_of_is_not_cut_silently(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a"))
        await journal.next_insert()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnavailableError, match="batches up to 1 were acknowledged"):
        await Journal(tmp_path, decode).open()


async def test_a_missing_or_damaged_checkpoint_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a"))
    checkpoint = tmp_path / "checkpoint"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(bytes(len(content)))
    with pytest.raises(UnavailableError, match="checkpoint is damaged"):
        await Journal(tmp_path, decode).open()
    checkpoint.unlink()
    with pytest.raises(UnavailableError, match="no checkpoint"):
        await Journal(tmp_path, decode).open()


async def test_a_torn_boundary_record_leaves_the_one_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a"))
        first = await journal.next_insert()
        shutil.copy(tmp_path / "checkpoint", tmp_path / "before")
        await journal.commit(first)
    before, after = (tmp_path / "before").read_bytes(), (tmp_path / "checkpoint").read_bytes()
    changed = next(at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
    torn = after[: changed + 40] + before[changed + 40 :]
    (tmp_path / "checkpoint").write_bytes(torn)
    async with opened(tmp_path) as journal:
        assert (await journal.next_insert()).token == first.token


async def test_a_frame_of_a_newer_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    header = encode_header(batch("a").header)
    frame = encode_start(1, 1, header, b"future", version=9) + header + b"future"
    path = tmp_path / f"{1:020d}.segment"
    path.write_bytes(frame)
    with pytest.raises(UnavailableError, match="has frames of version 9, this program reads up to 1"):
        await Journal(tmp_path, decode).open()
    assert path.read_bytes() == frame


async def test_a_full_disk_refuses_and_the_journal_goes_on_when_there_is_space(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.publish(batch("a", b"x" * 20_000))
        size = segments(tmp_path)[0].stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The system takes the first part of the group and refuses the rest, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30_000, hard))
        try:
            tasks = [asyncio.create_task(journal.publish(batch(name, b"x" * 20_000))) for name in "bcd"]
            results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        for result in results:
            assert isinstance(result, ResourceExhaustedError)
            assert result.reason == "DISK_FULL"
            assert result.retry_after
        assert segments(tmp_path)[0].stat().st_size == size
        assert journal.pending_bytes == 0
        assert await journal.publish(batch("e")) == 2
    async with opened(tmp_path) as journal:
        assert await drain(journal) == ["a", "e"]


async def test_without_a_file_descriptor_batches_are_refused_until_there_is_one(tmp_path: Path) -> None:
    async with opened(tmp_path, segment_bytes=1, max_held_bytes=0) as journal:
        await journal.publish(batch("a"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # As many as are open: each next one is refused.
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            for call in (journal.publish(batch("b")), journal.next_insert()):
                with pytest.raises(UnavailableError, match="too many files") as error:
                    await call
                assert error.value.retry_after
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await journal.publish(batch("c")) == 2
        assert await drain(journal) == ["a", "c"]
    async with opened(tmp_path) as journal:
        assert await drain(journal) == []


async def test_the_last_room_of_a_disk_is_left_to_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(journal_segments, "_LEAST_FREE_BYTES", 1 << 62)
            with pytest.raises(ResourceExhaustedError) as refused:
                await journal.publish(batch("a"))
        assert refused.value.reason == "DISK_FULL"
        # All who wait at that moment are refused.
        await asyncio.sleep(0)
        assert await journal.publish(batch("b")) == 1


async def test_after_a_failed_sync_nothing_is_taken_until_reopened(tmp_path: Path) -> None:
    crash, arm = failing("after write", errno.EIO)
    async with opened(tmp_path, crash_point=crash) as journal:
        await journal.publish(batch("a"))
        arm()
        with pytest.raises(UnavailableError, match="not known"):
            await journal.publish(batch("b"))
        with pytest.raises(UnavailableError):
            await journal.publish(batch("c"))
        assert await drain(journal) == ["a"]
    async with opened(tmp_path) as journal:
        assert await journal.publish(batch("d")) in (2, 3)


async def test_after_a_failed_sync_of_the_checkpoint_everything_stops(tmp_path: Path) -> None:
    crash, arm = failing("after boundary write", errno.EIO)
    async with opened(tmp_path, crash_point=crash) as journal:
        await journal.publish(batch("a"))
        waiter = asyncio.create_task(journal.wait_committed(Position(1)))
        await asyncio.sleep(0)
        arm()
        for call in (journal.next_insert(), waiter, journal.publish(batch("b"))):
            with pytest.raises(UnavailableError, match="disk failed"):
                await call
    async with opened(tmp_path) as journal:
        assert await drain(journal) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
async def test_a_checkpoint_without_room_is_written_later(code: int, tmp_path: Path) -> None:
    left = ["before boundary"]

    def crash(name: str) -> None:
        if name in left:
            left.remove(name)
            raise OSError(code, "injected")

    async with opened(tmp_path, crash_point=crash) as journal:
        await journal.publish(batch("a"))
        with pytest.raises(UnavailableError, match="full"):
            await journal.next_insert()
        await journal.publish(batch("b"))
        assert await drain(journal) == ["a", "b"]


async def test_a_batch_larger_than_the_journal_is_refused_for_good(tmp_path: Path) -> None:
    async with opened(tmp_path, max_pending_bytes=1_000) as journal:
        with pytest.raises(InvalidArgumentError):
            await journal.publish(batch("a", b"x" * 1_000))


async def test_what_waits_to_be_written_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path, max_pending_bytes=3_000) as journal:
        calls = [journal.publish(batch(f"r{number}", b"x" * 500)) for number in range(10)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [result for result in results if isinstance(result, ResourceExhaustedError)]
        assert len(refused) == 6
        assert {error.reason for error in refused} == {"BACKLOG_FULL"}
        assert await journal.publish(batch("later")) == 5


async def test_the_number_of_uncommitted_batches_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path, max_backlog_batches=2) as journal:
        await journal.publish(batch("a"))
        await journal.publish(batch("b"))
        with pytest.raises(ResourceExhaustedError):
            await journal.publish(batch("c"))


async def test_only_the_insert_under_way_can_be_committed(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as one, opened(tmp_path / "other") as other:
        await one.publish(batch("a"))
        await other.publish(batch("a"))
        with pytest.raises(FailedPreconditionError):
            await other.commit(await one.next_insert())


async def test_concurrent_publishes_share_a_sync_and_are_counted(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await asyncio.gather(*(journal.publish(batch(f"r{number}")) for number in range(50)))
        assert journal.frames == 50
        assert journal.fsyncs == 1
        assert journal.fsync_seconds > 0
        assert journal.frame_bytes == journal.backlog_bytes == segments(tmp_path)[0].stat().st_size


async def test_a_journal_that_is_not_open_refuses(tmp_path: Path) -> None:
    journal = Journal(tmp_path, decode)
    for call in (journal.publish(batch("a")), journal.next_insert(), journal.wait_committed(Position(1))):
        with pytest.raises(UnavailableError, match="starting or stopping"):
            await call
    await journal.close()


async def test_nobody_finds_room_before_those_who_were_just_refused_have_heard_of_it(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    behind: list[asyncio.Task[Position]] = []

    def full_once(name: str) -> None:
        if name == "before acknowledge" and not behind:
            # Runs before what waits for the refused one does.
            behind.append(loop.create_task(journal.publish(batch("b"))))
            raise journal_segments.DiskFullError

    async with opened(tmp_path, crash_point=full_once) as journal:
        with pytest.raises(ResourceExhaustedError):
            await journal.publish(batch("a"))
        with pytest.raises(ResourceExhaustedError):
            await behind[0]
        await asyncio.sleep(0)
        assert await journal.publish(batch("c"))
