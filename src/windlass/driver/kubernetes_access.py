"""Where the Kubernetes API server is and how to be let in: a kubeconfig, a URL, or the Pod this worker runs in."""

import base64
import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from windlass.errors import SettingsError

#: What Kubernetes puts into a Pod that may talk to it.
MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: A token on the disk is renewed by the kubelet long before it ends: it is read again after this many seconds.
TOKEN_KEPT_S = 10.0


@dataclass(slots=True)
class Token:
    """A bearer token: `text`, or the newest content of `path`."""

    text: str = ""
    path: Path | None = None
    _read_at: float = field(default=float("-inf"), init=False)

    def header(self) -> dict[str, str]:
        """The headers it makes; none without a token. What was read last serves while the file can't be read."""
        now = time.monotonic()
        if self.path is not None and now - self._read_at >= TOKEN_KEPT_S:
            with contextlib.suppress(OSError):
                self.text, self._read_at = self.path.read_text().strip(), now
        return {"Authorization": f"Bearer {self.text}"} if self.text else {}


@dataclass(frozen=True, slots=True)
class Access:
    """All it takes to talk to one namespace. `tls` is None for plain http."""

    url: str
    namespace: str
    token: Token
    tls: ssl.SSLContext | None


def find(*, config: str, url: str, namespace: str, token_file: str, ca_file: str) -> Access:
    """The way in, by these settings of the worker; each may be empty. Raises SettingsError in words for people."""
    try:
        if config:
            return _kubeconfig(Path(config), namespace)
        if url:
            return _access(url, namespace or "default", Token(path=Path(token_file) if token_file else None), ca_file)
        return _in_cluster(os.environ, MOUNTED, namespace)
    except (OSError, ValueError, KeyError, TypeError, ssl.SSLError, yaml.YAMLError) as fault:
        source = f"worker.kubernetes_config {config!r}" if config else "the settings worker.kubernetes_*"
        raise SettingsError(f"{source} can't be used: {_plain(fault)}") from fault


def _plain(fault: Exception) -> str:
    return f"it lacks {fault}" if isinstance(fault, KeyError) else str(fault)


def _access(url: str, namespace: str, token: Token, ca_file: str = "") -> Access:
    tls = ssl.create_default_context(cafile=ca_file or None) if url.startswith("https://") else None
    return Access(url.rstrip("/"), namespace, token, tls)


def _in_cluster(environ: Mapping[str, str], mounted: Path, namespace: str) -> Access:
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if not host:
        raise ValueError("this is no Pod; set worker.kubernetes_url or worker.kubernetes_config")
    at = f"[{host}]" if ":" in host else host
    url = f"https://{at}:{environ.get('KUBERNETES_SERVICE_PORT_HTTPS', '443')}"
    namespace = namespace or (mounted / "namespace").read_text().strip()
    return _access(url, namespace, Token(path=mounted / "token"), str(mounted / "ca.crt"))


def _kubeconfig(path: Path, namespace: str) -> Access:
    """The current context of a kubeconfig. Its paths are relative to it, as for kubectl."""
    whole: dict[str, Any] = yaml.safe_load(path.read_text())
    context = _named(whole["contexts"], whole["current-context"])["context"]
    cluster = _named(whole["clusters"], context["cluster"])["cluster"]
    user: dict[str, Any] = _named(whole["users"], context["user"])["user"] or {}
    if "exec" in user or "auth-provider" in user:
        raise ValueError("its user logs in through a program; give the worker a service account's token instead")
    token = Token(str(user.get("token", "")))
    if "tokenFile" in user:
        token = Token(path=path.parent / user["tokenFile"])
    access = _access(cluster["server"], namespace or context.get("namespace") or "default", token)
    if access.tls is not None:
        _trust(access.tls, path.parent, cluster)
        _present(access.tls, path.parent, user)
    return access


def _named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for row in rows:
        if row["name"] == name:
            return row
    raise ValueError(f"nothing in it is named {name!r}")


def _trust(tls: ssl.SSLContext, folder: Path, cluster: Mapping[str, Any]) -> None:
    if data := cluster.get("certificate-authority-data"):
        tls.load_verify_locations(cadata=base64.b64decode(data).decode())
    elif file := cluster.get("certificate-authority"):
        tls.load_verify_locations(cafile=folder / file)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE


def _present(tls: ssl.SSLContext, folder: Path, user: Mapping[str, Any]) -> None:
    """The user's certificate. Python takes keys from files only, so one that came as text becomes one for a moment."""
    if file := user.get("client-certificate"):
        tls.load_cert_chain(folder / file, folder / user["client-key"])
    elif data := user.get("client-certificate-data"):
        with tempfile.NamedTemporaryFile() as both:
            both.write(base64.b64decode(data) + b"\n" + base64.b64decode(user["client-key-data"]))
            both.flush()
            tls.load_cert_chain(both.name)
