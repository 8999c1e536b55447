"""The Docker driver against a real engine: what the contract does not say because only containers have it."""

import asyncio
import json
from dataclasses import replace

import pytest

from tests.driver.conftest import DockerStage, docker_command
from tests.driver.play import opened, read, run
from tests.images import build_image
from tests.support import HANG_S, wait_until
from windlass.core.spec import Resources, Volume
from windlass.core.states import Cause
from windlass.driver.base import AnswerLost, DriverFault
from windlass.driver.docker_engine import Engine
from windlass.driver.docker_profile import Profile

pytestmark = [pytest.mark.docker]


def play(docker: DockerStage, spec, **options):
    """The outcome and the output of one container."""

    async def scenario():
        async with opened(docker.driver(**options)) as driver:
            ticket = docker.ticket(spec)
            outcome = await run(docker, driver, ticket)
            return outcome, await read(driver, ticket)

    return asyncio.run(scenario())


def test_exit_codes_are_exact_over_the_whole_range(docker: DockerStage):
    async def scenario():
        async with opened(docker.driver()) as driver:
            slots = asyncio.Semaphore(4)

            async def code(n: int) -> int | None:
                async with slots:
                    ticket = docker.ticket(docker.shell(f"exit {n}"))
                    outcome = await run(docker, driver, ticket)
                    await driver.remove(ticket)
                    return outcome.exit_code

            assert await asyncio.gather(*(code(n) for n in range(0, 256, 5))) == list(range(0, 256, 5))

    asyncio.run(scenario())


def test_a_start_whose_answer_is_lost_may_have_happened_and_is_found_out(
    docker: DockerStage, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    call = Engine.call

    async def deaf(self: Engine, method: str, path: str, *rest, **options):
        answer = await call(self, method, path, *rest, **options)
        if path.endswith("/start"):
            asked.append(path)
            raise AnswerLost("the engine went away")
        return answer

    monkeypatch.setattr(Engine, "call", deaf)
    assert play(docker, docker.shell("echo it ran"))[0].exit_code == 0
    assert len(asked) == 1


def test_a_kill_from_outside_is_a_signal(docker: DockerStage):
    async def scenario():
        async with opened(docker.driver()) as driver:
            ticket = docker.ticket(docker.sleeps(60))
            await driver.prepare(ticket)
            await driver.start(ticket)
            docker_command("kill", ticket.attempt_id)
            outcome = await asyncio.wait_for(driver.wait(ticket), HANG_S)
            assert (outcome.exit_code, outcome.cause) == (137, Cause.SIGNAL)

    asyncio.run(scenario())


def test_a_container_removed_by_others_is_lost_to_the_node(docker: DockerStage):
    async def scenario():
        async with opened(docker.driver()) as driver:
            ticket = docker.ticket(docker.sleeps(60))
            await driver.prepare(ticket)
            await driver.start(ticket)
            output = asyncio.create_task(read(driver, ticket))
            docker_command("rm", "-f", ticket.attempt_id)
            with pytest.raises(DriverFault) as fault:
                await asyncio.wait_for(driver.wait(ticket), HANG_S)
            assert fault.value.cause is Cause.NODE_LOST
            await asyncio.wait_for(output, HANG_S)

    asyncio.run(scenario())


def test_a_memory_limit_is_an_oom(docker: DockerStage):
    outcome, _ = play(docker, docker.shell("head -c 200m /dev/zero | tail"))
    assert outcome.cause is Cause.OOM
    assert outcome.exit_code == 137


def test_command_replaces_the_entrypoint_and_args_the_cmd(docker: DockerStage):
    image = build_image("windlass-test/entry", 'ENTRYPOINT ["echo", "entry"]', 'CMD ["cmd"]')
    base = replace(docker.base(), image=image)
    said = {
        "both are the image's": (None, None, b"entry cmd\n"),
        "args replace the cmd": (None, ("mine",), b"entry mine\n"),
        "a command drops both": (("echo", "own"), None, b"own\n"),
        "a command takes args": (("echo", "own"), ("mine",), b"own mine\n"),
    }
    for what, (command, args, expected) in said.items():
        _, output = play(docker, replace(base, command=command, args=args))
        assert output["stdout"] == expected, what


def test_the_standard_profile_takes_away_what_jobs_do_not_need(docker: DockerStage):
    _, output = play(docker, docker.shell("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; id -u; touch /work/x"))
    found = dict(line.split(":\t") for line in output["stdout"].decode().splitlines() if "\t" in line)
    kept = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7  # chown dac_override fowner kill setgid setuid
    assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == kept
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert output["stderr"] == b""


def test_the_restricted_profile_leaves_next_to_nothing(docker: DockerStage):
    script = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; id -u; touch /tmp/ok /work/x; ls /sys/class/net"
    outcome, output = play(docker, docker.shell(script, network="bridge"), profile=Profile.RESTRICTED)
    text = output["stdout"].decode()
    assert outcome.exit_code == 0
    assert "CapBnd:\t0000000000000000" in text
    assert "NoNewPrivs:\t1" in text
    assert "65534\n" in text
    assert text.endswith("lo\n")
    assert "eth0" not in text
    assert b"Read-only file system" in output["stderr"]
    assert b"/tmp/ok" not in output["stderr"]


@pytest.mark.parametrize("user", ["root", "0", "0:0", "app", "1000:0"])
def test_the_restricted_profile_refuses_a_user_that_may_be_root(docker: DockerStage, user: str):
    with pytest.raises(DriverFault, match="restricted") as fault:
        play(docker, docker.shell("true", user=user), profile=Profile.RESTRICTED)
    assert fault.value.cause is Cause.START_FAILED


def test_the_restricted_profile_keeps_an_images_own_plain_user(docker: DockerStage):
    image = build_image("windlass-test/user", "USER 1000:1000")
    spec = replace(docker.shell("id -u"), image=image)
    assert play(docker, spec, profile=Profile.RESTRICTED)[1]["stdout"] == b"1000\n"


def test_limits_and_labels_reach_the_engine(docker: DockerStage):
    async def scenario():
        needs = Resources(cpu=0.5, memory=64 * 2**20, memory_max=96 * 2**20, pids=33, shm_size=8 * 2**20)
        ticket = docker.ticket(docker.shell("true", resources=needs, labels={"team": "data"}), number=4)
        async with opened(docker.driver()) as driver:
            await driver.prepare(ticket)
        seen = json.loads(docker_command("inspect", ticket.attempt_id))[0]
        host, labels = seen["HostConfig"], seen["Config"]["Labels"]
        assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (500_000_000, 33, 8 * 2**20)
        assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (96 * 2**20, 96 * 2**20, 64 * 2**20)
        assert (host["AutoRemove"], host["Init"], host["NetworkMode"]) == (False, True, "none")
        assert labels == {
            "windlass.cluster": docker.cluster,
            "windlass.node": docker.node,
            "windlass.job": ticket.job_id,
            "windlass.attempt": ticket.attempt_id,
            "windlass.fence": "7",
            "windlass.number": "4",
        }

    asyncio.run(scenario())


def test_a_volume_on_the_allow_list_is_shown(docker: DockerStage):
    shared = docker.root / "shared"
    shared.mkdir()
    (shared / "in").write_text("from the node\n")
    volumes = (Volume(str(shared), "/data"), Volume(str(shared), "/ro", read_only=True))
    script = "cat /data/in; echo from the job > /data/out; touch /ro/x"
    outcome, output = play(docker, docker.shell(script, volumes=volumes), volumes_allowed=(str(docker.root),))
    assert output["stdout"] == b"from the node\n"
    assert (shared / "out").read_text() == "from the job\n"
    assert outcome.exit_code != 0
    assert not (shared / "x").exists()


def test_a_user_the_image_does_not_know_is_a_failed_start(docker: DockerStage):
    with pytest.raises(DriverFault, match="nosuchuser") as fault:
        play(docker, docker.shell("true", user="nosuchuser"))
    assert fault.value.cause is Cause.START_FAILED


def test_more_cores_than_the_node_has_is_a_failed_start(docker: DockerStage):
    with pytest.raises(DriverFault, match=r"(?i)cpus") as fault:
        play(docker, docker.shell("true", resources=Resources(cpu=4000)))
    assert fault.value.cause is Cause.START_FAILED


def test_a_file_that_is_not_executable_is_a_failed_start(docker: DockerStage):
    outcome, _ = play(docker, replace(docker.base(), command=("/etc/passwd",)))
    assert (outcome.exit_code, outcome.cause) == (126, Cause.START_FAILED)
    assert "/etc/passwd" in outcome.message
    assert "Permission denied" in outcome.message


def test_survivors_are_this_clusters_and_this_nodes_alone(docker: DockerStage, tmp_path):
    async def scenario():
        other = DockerStage(tmp_path / "other")
        other.root.mkdir()
        async with opened(docker.driver()) as mine, opened(other.driver()) as theirs:
            ticket = docker.ticket(docker.exits(0))
            await mine.prepare(ticket)
            assert [survivor.running for survivor in await mine.survivors()] == [False]
            assert await theirs.survivors() == []

    asyncio.run(scenario())


def test_a_failed_pull_is_told_to_all_who_share_it(docker: DockerStage):
    async def scenario():
        async with opened(docker.driver()) as driver:
            spec = docker.unknown_image()
            assert spec is not None
            asked = [driver.prepare(docker.ticket(spec)) for _ in range(3)]
            faults = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(fault, DriverFault) and fault.cause is Cause.IMAGE_PULL for fault in faults)

    asyncio.run(scenario())


def test_endings_are_seen_without_the_event_stream(docker: DockerStage):
    async def scenario():
        driver = docker.driver()
        async with opened(driver):
            ticket = docker.ticket(docker.sleeps(1, exit_code=9))
            await driver.prepare(ticket)
            listener, *_ = driver._endings._tasks
            listener.cancel()
            await wait_until(listener.done, "the event stream is gone")
            await driver.start(ticket)
            assert (await asyncio.wait_for(driver.wait(ticket), HANG_S)).exit_code == 9

    asyncio.run(scenario())
