"""A node for our own manifests: it runs their Pods as containers of a real Docker Engine, as a kubelet would.

Real: the image, its commands, the variables and files, the user, the read-only root, capabilities, memory limits, the
volumes' owners and modes, the order of init containers, probes and signals. Imitated: names (a Service is an alias of
its Pods on one network), and the account's token with the authority to trust. Not there: scheduling, NetworkPolicies, a
preStop that only sleeps.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.kubernetes.manifests import Thing, environment, matches, of_kind, the_pod

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_UNITS = {"Mi": 2**20, "Gi": 2**30}


def docker(*words: str, check: bool = True, within: float = 180) -> subprocess.CompletedProcess[str]:
    """A docker command."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0 or not check, f"docker {words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


@dataclass
class Node:
    """One network, one folder. `images` says what stands for the images named in the manifests."""

    things: list[Thing]
    folder: Path
    images: Mapping[str, str]
    name: str = field(default_factory=lambda: f"windlass-node-{os.getpid()}")
    started: list[str] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    api_server: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        docker("network", "create", self.name)
        (config,) = json.loads(docker("network", "inspect", self.name).stdout)[0]["IPAM"]["Config"]
        self.gateway: str = config["Gateway"]

    def close(self) -> None:
        """Everything of it goes."""
        for container in self.started:
            docker("rm", "-f", "-v", container, check=False)
        docker("network", "rm", self.name, check=False)

    def admit(self, token: str, namespace: str, port: int, certificate: Path) -> None:
        """What Kubernetes puts into a Pod that may talk to its API server, which listens at the gateway."""
        folder = self.folder / "account"
        folder.mkdir()
        for name, text in {"token": token, "namespace": namespace, "ca.crt": certificate.read_text()}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o444)
        folder.chmod(0o755)
        self.api_server = {"KUBERNETES_SERVICE_HOST": self.gateway, "KUBERNETES_SERVICE_PORT_HTTPS": str(port)}

    def start(self, owner: str, number: int = 0) -> str:
        """Start the Pod that this Deployment, StatefulSet or Pod makes, once its init containers have succeeded.

        The container's name. What it keeps from an earlier time, it finds again.
        """
        pod = the_pod(self.things, owner)
        for first in pod["spec"].get("initContainers", []):
            self._succeed(pod, first, number)
        (main,) = pod["spec"]["containers"]
        return self._run(pod, main, number)

    def _succeed(self, pod: Thing, container: Thing, number: int) -> None:
        """Run it until it ends well; the kubelet waits longer and longer in between."""
        for _ in range(10):
            made = self._run(pod, container, number)
            if docker("wait", made).stdout.strip() == "0":
                return
            time.sleep(0.5)
        raise AssertionError(docker("logs", made).stderr)

    def _run(self, pod: Thing, container: Thing, number: int) -> str:
        host = f"{pod['name']}-{number}"
        name = f"{self.name}-{host}-{container['name']}"
        docker("rm", "-f", name, check=False)
        self.addresses.pop(name, None)
        self.started.append(name)
        words = [*container.get("command", [])[1:], *container.get("args", [])]
        options = ["--name", name, "--hostname", host, *self._options(pod, container, host)]
        docker("run", "-d", *options, self.images[container["image"]], *words)
        return name

    def _options(self, pod: Thing, container: Thing, host: str) -> Iterator[str]:
        whole, own = pod["spec"]["securityContext"], container["securityContext"]
        yield "--no-healthcheck"  # Kubernetes does not know it
        yield from ("--network", self.name, "--user", f"{whole['runAsUser']}:{whole['runAsGroup']}")
        yield from ("--group-add", str(whole["fsGroup"]))
        yield from ("--memory", str(_bytes(container["resources"]["limits"]["memory"])))
        for dropped in own["capabilities"]["drop"]:
            yield from ("--cap-drop", dropped)
        if not own["allowPrivilegeEscalation"]:
            yield from ("--security-opt", "no-new-privileges")
        if own["readOnlyRootFilesystem"]:
            yield "--read-only"
        if "command" in container:
            yield from ("--entrypoint", container["command"][0])
        if "workingDir" in container:
            yield from ("--workdir", container["workingDir"])
        for service in of_kind(self.things, "Service"):
            if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"]):
                yield from ("--network-alias", service["metadata"]["name"])
        environ = environment(container, self.things)
        if pod["spec"]["automountServiceAccountToken"]:
            environ |= self.api_server
            yield from ("--volume", f"{self.folder}/account:{ACCOUNT}:ro")
        for variable, value in environ.items():
            yield from ("--env", f"{variable}={value}")
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        for mount in container["volumeMounts"]:
            yield from self._mount(volumes.get(mount["name"], {}), mount, host, whole["fsGroup"])

    def _mount(self, volume: Thing, mount: Thing, host: str, group: int) -> Iterator[str]:
        if "emptyDir" in volume:
            size = _bytes(volume["emptyDir"]["sizeLimit"])
            if mount["mountPath"] == "/dev/shm":
                yield from ("--shm-size", str(size))
            else:
                yield from ("--tmpfs", f"{mount['mountPath']}:size={size},mode=2777,gid={group}")
            return
        kept = self.folder / f"{host}-{mount['name']}"
        if "projected" in volume or "secret" in volume:
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir()
            for path, text in self._secrets(volume).items():
                (kept / path).write_text(text)
                os.chown(kept / path, 0, group)
                (kept / path).chmod(0o440)
            kept.chmod(0o755)
            yield from ("--volume", f"{kept}:{mount['mountPath']}:ro")
            return
        kept.mkdir(exist_ok=True)  # a claim: root's, and its group's
        os.chown(kept, 0, group)
        kept.chmod(0o2775)
        yield from ("--volume", f"{kept}:{mount['mountPath']}")

    def _secrets(self, volume: Thing) -> dict[str, str]:
        has = {one["metadata"]["name"]: one["stringData"] for one in of_kind(self.things, "Secret")}
        if "secret" in volume:
            return has[volume["secret"]["secretName"]]
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        return {item["path"]: has[one["name"]][item["key"]] for one in sources for item in one["items"]}

    def probe(self, made: str, owner: str, kind: str) -> str:
        """Ask as the kubelet does; what is wrong, or nothing."""
        (main,) = the_pod(self.things, owner)["spec"]["containers"]
        asked = main[f"{kind}Probe"]
        ports = {port["name"]: port["containerPort"] for port in main["ports"]}
        if "exec" in asked:
            done = docker("exec", made, *asked["exec"]["command"], check=False)
            return "" if done.returncode == 0 else done.stdout + done.stderr or f"code {done.returncode}"
        address = self.address(made)
        if "tcpSocket" in asked:
            return _connects(address, ports[asked["tcpSocket"]["port"]])
        get = asked["httpGet"]
        url = f"{get.get('scheme', 'HTTP').lower()}://{address}:{ports[get['port']]}{get['path']}"
        try:
            answer = httpx2.get(url, timeout=asked.get("timeoutSeconds", 1), trust_env=False)
        except httpx2.TransportError as error:
            return f"{url}: {error}"
        return "" if answer.status_code < 400 else f"{url}: {answer.status_code} {answer.text}"

    def address(self, made: str) -> str:
        """Where a container is reached."""
        if made not in self.addresses:
            self.addresses[made] = self.inspected(made)["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        return self.addresses[made]

    def inspected(self, made: str) -> dict[str, Any]:
        """What the engine says of a container."""
        return json.loads(docker("inspect", made).stdout)[0]

    def stop(self, made: str, owner: str) -> int:
        """End it as the kubelet does, and its exit code: 137 when it took longer than it was given."""
        pod = the_pod(self.things, owner)
        ends = time.monotonic() + (grace := pod["spec"].get("terminationGracePeriodSeconds", 30))
        hook = pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {})
        if "exec" in hook:  # one that ends its container dies with it
            docker("exec", made, *hook["exec"]["command"], check=False, within=grace + 30)
        docker("stop", "-t", str(max(1, round(ends - time.monotonic()))), made, within=grace + 30)
        return self.inspected(made)["State"]["ExitCode"]

    def written(self, made: str) -> list[str]:
        """What was changed in the root of a container, mount points left out."""
        told = self.inspected(made)
        mounts = {mount["Destination"] for mount in told["Mounts"]} | told["HostConfig"]["Tmpfs"].keys()
        changed = [line.split(" ", 1)[1] for line in docker("diff", made).stdout.splitlines()]
        return [path for path in changed if not any(mount.startswith(path) for mount in mounts)]

    def words(self) -> str:
        """The last of what each container said, for a test that fails."""
        said = []
        for made in dict.fromkeys(self.started):
            done = docker("logs", "--tail", "15", made, check=False)
            said.append(f"-- {made}\n{done.stdout}{done.stderr}")
        return "\n".join(said)


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def _connects(address: str, port: int) -> str:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError as error:
        return f"{address}:{port}: {error}"
    return ""


def make_certificate(folder: Path, address: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for that address, signed by itself, and the server's side of it."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=kubernetes"]
    names = ["-addext", f"subjectAltName=IP:{address}"]
    made = ["openssl", "req", "-x509", *words, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return certificate, tls
