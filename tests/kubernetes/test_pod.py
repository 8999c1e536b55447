"""The object that is posted for an attempt, held against Kubernetes' own schemas of two minor versions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.schemas import all_faults
from windlass.core.ids import AttemptId, JobId
from windlass.core.spec import JobSpec, Resources, Volume
from windlass.core.states import Cause, Driver
from windlass.driver.base import DriverFault, Ticket
from windlass.driver.docker_profile import Profile
from windlass.driver.kubernetes_pod import pod_body

PLAIN = JobSpec(image="busybox:1", driver=Driver.KUBERNETES, resources=Resources(cpu=0.5, memory=64 * 2**20))


def the_pod(profile: Profile = Profile.STANDARD, *, allowed: bool = False, **fields: Any) -> dict[str, Any]:
    spec = replace(PLAIN, **fields)
    ticket = Ticket(AttemptId("at_01abc"), JobId("jb_01abc"), 2, 7, spec, Path("/nowhere"))
    pod = pod_body(ticket, cluster="prod", node_id="nd_1", profile=profile, restricted_network=allowed)
    assert not (found := all_faults(pod)), found
    return pod


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return only


def test_one_pod_per_attempt_by_its_name_and_labels():
    meta = the_pod()["metadata"]
    assert meta["name"] == "at-01abc"
    assert meta["labels"] == {
        "windlass.cluster": "prod",
        "windlass.node": "nd_1",
        "windlass.job": "jb_01abc",
        "windlass.attempt": "at_01abc",
        "windlass.fence": "7",
        "windlass.number": "2",
        "windlass.network": "open",
        "app.kubernetes.io/managed-by": "windlass",
    }


def test_kubernetes_never_runs_it_twice_and_nothing_runs_before_its_start():
    spec = the_pod()["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["schedulingGates"] == [{"name": "windlass.dev/start"}]


def test_limits_are_the_jobs():
    one = container(the_pod())["resources"]
    assert one == {
        "requests": {"cpu": "500m", "memory": "67108864"},
        "limits": {"cpu": "500m", "memory": "67108864"},
    }
    needs = Resources(cpu=0.0001, memory=2**20, memory_max=2**30)
    wide = container(the_pod(resources=needs))["resources"]
    assert (wide["requests"]["cpu"], wide["requests"]["memory"]) == ("1m", "1048576")
    assert wide["limits"]["memory"] == str(2**30)


@pytest.mark.parametrize(("grace", "seconds"), [(0.0, 1), (0.2, 1), (10.0, 10), (10.1, 11)])
def test_grace_is_in_whole_seconds(grace: float, seconds: int):
    assert the_pod(stop_grace=grace)["spec"]["terminationGracePeriodSeconds"] == seconds


def test_it_gets_no_account_and_no_addresses_of_the_cluster():
    spec = the_pod()["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()


def test_the_standard_profile_keeps_what_ordinary_images_need():
    security = container(the_pod())["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["privileged"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["capabilities"]["add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
    assert "runAsUser" not in security


def test_the_restricted_profile_is_what_pod_security_calls_restricted():
    pod = the_pod(Profile.RESTRICTED)
    security = container(pod)["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "runAsGroup": 65534,
    }
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["volumes"] == [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]
    assert container(pod)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_whether_it_has_a_network_is_a_label_for_policies():
    def label(pod: dict[str, Any]) -> str:
        return pod["metadata"]["labels"]["windlass.network"]

    assert label(the_pod(network="none")) == "none"
    assert label(the_pod(Profile.RESTRICTED)) == "none"
    assert label(the_pod(Profile.RESTRICTED, allowed=True)) == "open"


def test_a_user_is_a_number():
    assert container(the_pod(user="1000:1001"))["securityContext"]["runAsUser"] == 1000
    assert container(the_pod(user="1000:1001"))["securityContext"]["runAsGroup"] == 1001
    assert "runAsGroup" not in container(the_pod(user="1000"))["securityContext"]
    with pytest.raises(DriverFault, match="numbers only") as fault:
        the_pod(user="app")
    assert fault.value.cause is Cause.START_FAILED
    with pytest.raises(DriverFault, match="restricted"):
        the_pod(Profile.RESTRICTED, user="0")


def test_words_mean_what_they_say():
    """Kubernetes would put the value of a variable for $(NAME)."""
    pod = the_pod(command=("sh", "-c"), args=("echo $(HOME) $$",), env={"A": "$(B)", "B": "$"})
    one = container(pod)
    assert one["args"] == ["echo $$(HOME) $$$$"]
    env = {each["name"]: each["value"] for each in one["env"]}
    assert (env["A"], env["B"]) == ("$$(B)", "$$")
    assert env["WINDLASS_ATTEMPT"] == "2"


def test_a_command_alone_drops_the_arguments_of_the_image():
    assert container(the_pod(command=("true",)))["args"] == []
    assert "args" not in container(the_pod())
    assert "command" not in container(the_pod(args=("a",)))


def test_shared_memory_has_a_size():
    pod = the_pod(resources=replace(PLAIN.resources, shm_size=2**20))
    assert pod["spec"]["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1048576"}}]
    assert container(pod)["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]


def test_folders_of_a_node_are_refused():
    with pytest.raises(DriverFault, match="volumes") as fault:
        the_pod(volumes=(Volume("/data", "/data"),))
    assert fault.value.cause is Cause.START_FAILED


def test_a_silent_node_is_borne_for_half_a_minute():
    tolerations = the_pod()["spec"]["tolerations"]
    assert {one["key"].rpartition("/")[2]: one["tolerationSeconds"] for one in tolerations} == {
        "not-ready": 30,
        "unreachable": 30,
    }
