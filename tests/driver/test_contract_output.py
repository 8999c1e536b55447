"""What every driver promises of output: streams apart, bytes exact, from any offset on, live."""

import asyncio

import pytest

from tests.driver.conftest import CommandStage, Stage
from tests.driver.play import follow, opened, read, run
from tests.support import HANG_S


def test_streams_are_kept_apart(stage: Stage):
    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.prints("to stdout\nno newline at the end", "to stderr\n"))
            await run(stage, driver, ticket)
            assert await read(driver, ticket) == {
                "stdout": b"to stdout\nno newline at the end",
                "stderr": b"to stderr\n",
            }

    asyncio.run(scenario())


def test_logs_go_on_after_any_offset(stage: Stage):
    out, err = "".join(f"line {n}\n" for n in range(200)), "".join(f"error {n}\n" for n in range(50))

    async def scenario():
        async with opened(stage.driver()) as driver:
            ticket = stage.ticket(stage.prints(out, err))
            await run(stage, driver, ticket)
            for skip_out, skip_err in [(0, 0), (1, 0), (7, 3), (len(out) - 1, len(err)), (len(out), len(err))]:
                rest = await read(driver, ticket, {"stdout": skip_out, "stderr": skip_err})
                assert rest == {"stdout": out.encode()[skip_out:], "stderr": err.encode()[skip_err:]}

    asyncio.run(scenario())


def test_binary_output_is_kept_byte_for_byte(commands: CommandStage):
    octal = "".join(f"\\{n:03o}" for n in range(256))

    async def scenario():
        async with opened(commands.driver()) as driver:
            ticket = commands.ticket(commands.shell(f"printf '{octal}'; printf '{octal}' >&2"))
            await run(commands, driver, ticket)
            assert await read(driver, ticket) == {"stdout": bytes(range(256)), "stderr": bytes(range(256))}

    asyncio.run(scenario())


def test_a_huge_line_comes_in_small_chunks(commands: CommandStage):
    async def scenario():
        async with opened(commands.driver()) as driver:
            ticket = commands.ticket(
                commands.shell("for n in 3000000 65536; do head -c $n /dev/zero; echo; done; echo end")
            )
            await run(commands, driver, ticket)
            expected = bytes(3_000_000) + b"\n" + bytes(65_536) + b"\nend\n"
            assert (await read(driver, ticket))["stdout"] == expected
            for skip in (2_999_990, 3_000_000, 3_000_001, len(expected) - 5, len(expected) - 4):
                assert (await read(driver, ticket, {"stdout": skip}))["stdout"] == expected[skip:]

    asyncio.run(scenario())


def test_output_is_read_while_it_runs(commands: CommandStage):
    async def scenario():
        async with opened(commands.driver()) as driver:
            ticket = commands.ticket(commands.shell("echo first; exec sleep 60"))
            await driver.prepare(ticket)
            await driver.start(ticket)
            output = aiter(driver.logs(ticket, {}))
            chunk = await asyncio.wait_for(anext(output), HANG_S)
            assert (chunk.stream, chunk.offset, chunk.data) == ("stdout", 0, b"first\n")
            await driver.stop(ticket, 5)
            await asyncio.wait_for(driver.wait(ticket), HANG_S)
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(anext(output), HANG_S)

    asyncio.run(scenario())


def test_logs_taken_up_by_a_new_driver_have_no_gap_and_no_repeat(commands: CommandStage):
    expected = b"".join(b"line %d\n" % n for n in range(1, 61))

    async def scenario():
        script = "for n in $(seq 60); do echo line $n; echo line $n >&2; sleep 0.05; done"
        ticket = commands.ticket(commands.shell(script))
        async with opened(commands.driver()) as driver:
            await driver.prepare(ticket)
            await driver.start(ticket)
        at: dict[str, int] = {}
        got = {"stdout": b"", "stderr": b""}
        done = False
        while not done:
            done = True
            async with opened(commands.driver()) as driver:
                output = driver.logs(ticket, dict(at))
                async for chunk in output:
                    follow(chunk, at)
                    got[chunk.stream] += chunk.data
                    if len(got["stdout"]) % 7 == 0:
                        done = False
                        break
                await output.aclose()
        assert got == {"stdout": expected, "stderr": expected}

    asyncio.run(scenario())
