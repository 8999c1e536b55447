"""The way to the API server: a kubeconfig, a URL, or the Pod's own account."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass.driver import kubernetes_access
from windlass.driver.kubernetes_access import Access, Token, find
from windlass.errors import SettingsError

NOTHING = {"config": "", "url": "", "namespace": "", "token_file": "", "ca_file": ""}


def found(**settings: str) -> Access:
    return find(**NOTHING | settings)


def a_kubeconfig(folder: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> str:
    context = {"cluster": "c", "user": "u", "namespace": "jobs"}
    other = {"name": "other", "context": {"cluster": "none", "user": "none"}}
    whole = {
        "current-context": "here",
        "contexts": [other, {"name": "here", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1/"} | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(whole))
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("pair")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=kubernetes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return folder


def test_a_kubeconfig_by_its_current_context(tmp_path: Path):
    access = found(config=a_kubeconfig(tmp_path))
    assert (access.url, access.namespace, access.tls) == ("http://127.0.0.1:1", "jobs", None)
    assert access.token.header() == {"Authorization": "Bearer secret"}
    assert found(config=a_kubeconfig(tmp_path), namespace="mine").namespace == "mine"


def test_a_kubeconfig_with_files_beside_it(tmp_path: Path, pair: Path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    (tmp_path / "token").write_text("of a file\n")
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": "cert.pem"}
    user = {"tokenFile": "token", "client-certificate": "cert.pem", "client-key": "key.pem"}
    access = found(config=a_kubeconfig(tmp_path, cluster, user))
    assert access.token.header() == {"Authorization": "Bearer of a file"}
    assert access.tls is not None
    assert access.tls.verify_mode is ssl.CERT_REQUIRED
    assert any("kubernetes" in str(ca["subject"]) for ca in access.tls.get_ca_certs())


def test_a_kubeconfig_that_logs_in_through_a_program_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="service account's token"):
        found(config=a_kubeconfig(tmp_path, user={"exec": {"command": "aws"}}))


@pytest.mark.parametrize("broken", ["", "[]", "current-context: a\n", "{", "\0"])
def test_a_broken_kubeconfig_is_told_in_words(tmp_path: Path, broken: str):
    path = tmp_path / "config"
    path.write_text(broken)
    with pytest.raises(SettingsError, match=r"worker\.kubernetes_config .* can't be used"):
        found(config=str(path))


def test_a_context_without_its_cluster_is_told_in_words(tmp_path: Path):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump({"current-context": "a", "contexts": []}))
    with pytest.raises(SettingsError, match="nothing in it is named 'a'"):
        found(config=str(path))


def test_a_url_with_its_files(tmp_path: Path, pair: Path):
    (tmp_path / "token").write_text("abc")
    ca = str(pair / "cert.pem")
    access = found(url="https://10.0.0.1:6443/", token_file=str(tmp_path / "token"), ca_file=ca)
    assert (access.url, access.namespace) == ("https://10.0.0.1:6443", "default")
    assert access.token.header() == {"Authorization": "Bearer abc"}
    with pytest.raises(SettingsError, match="can't be used"):
        found(url="https://10.0.0.1:6443", ca_file=str(tmp_path / "missing"))


def test_in_a_pod_it_is_the_pods_own_account(tmp_path: Path, pair: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ca.crt").write_bytes((pair / "cert.pem").read_bytes())
    (tmp_path / "token").write_text("mounted")
    (tmp_path / "namespace").write_text("windlass-jobs\n")
    monkeypatch.setattr(kubernetes_access, "MOUNTED", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT_HTTPS", "6443")
    access = found()
    assert (access.url, access.namespace) == ("https://[fd00::1]:6443", "windlass-jobs")
    assert access.token.header() == {"Authorization": "Bearer mounted"}


def test_nowhere_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SettingsError, match=r"set worker\.kubernetes_url or worker\.kubernetes_config"):
        found()


def test_a_token_is_read_again_as_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "token"
    path.write_text("first")
    token = Token(path=path)
    assert token.header() == {"Authorization": "Bearer first"}
    path.write_text("second")
    assert token.header() == {"Authorization": "Bearer first"}
    monkeypatch.setattr(kubernetes_access, "TOKEN_KEPT_S", 0.0)
    assert token.header() == {"Authorization": "Bearer second"}
    path.unlink()
    assert token.header() == {"Authorization": "Bearer second"}
    assert Token().header() == {}
