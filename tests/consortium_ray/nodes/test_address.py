"""No test asks Ray for more than an address: what is tried is answered, or not, by sockets of this process."""

import socket
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from consortium.cli import main
from consortium.common.errors import ClusterError
from consortium_ray import runtime
from consortium_ray.nodes import address
from consortium_ray.nodes.address import checked_address


@contextmanager
def listening(backlog=5):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener.getsockname()[1]


def closed_port():
    with listening() as port:
        return port


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(address, "CONNECTION_S", 1.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def refused(text, within_s=10.0):
    start = time.monotonic()
    with pytest.raises(ClusterError) as caught:
        checked_address(text)
    assert time.monotonic() - start < within_s
    assert caught.value.expected
    assert caught.value.remedy
    return caught.value.found


def test_a_port_that_nobody_listens_on_is_told_at_once():
    port = closed_port()
    found = refused(f"127.0.0.1:{port}", within_s=0.5)
    assert found.startswith(f"no connection to Ray at 127.0.0.1:{port}: ")
    assert "refused" in found


def test_the_runtime_asks_before_ray_does(monkeypatch):
    monkeypatch.setattr(runtime.ray, "init", lambda **_: pytest.fail("Ray was asked"))
    monkeypatch.setattr(runtime.ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="no connection to Ray"), runtime.connected(f"127.0.0.1:{closed_port()}"):
        pass


def test_an_address_that_swallows_what_is_sent_is_given_up(monkeypatch):
    class Mute(socket.socket):
        def connect(self, place):
            time.sleep(0.1)
            raise TimeoutError("timed out")

    monkeypatch.setattr(address.socket, "socket", Mute)
    assert "nothing answers within 1 s" in refused("10.255.255.1:6379")


def test_a_name_that_nobody_knows_is_named():
    assert "the name head.invalid is not known here" in refused("head.invalid:6379")


def test_a_name_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(address.socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    assert "the name head is not known here: took too long" in refused("head:6379", within_s=2.5)


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_web_server_is_no_cluster():
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = refused(f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "no Ray cluster" in found


def test_who_takes_the_call_and_says_nothing_is_no_cluster():
    with listening() as port:
        assert "no Ray cluster, or one that is stuck" in refused(f"127.0.0.1:{port}")


def test_another_service_of_the_same_kind_is_no_cluster():
    grpc = pytest.importorskip("grpc")
    server = grpc.server(address.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert "not the head of a Ray cluster" in refused(f"127.0.0.1:{port}")
    server.stop(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "local",
        "10.0.0.1:",
        ":6379",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:abc",
        "a b:6379",
        "::1:6379",
    ],
)
def test_what_is_no_address_is_said(text):
    assert refused(text).endswith("is no address")


def test_an_address_of_six_parts_is_one():
    assert "no connection to Ray at [::1]:" in refused(f"[::1]:{closed_port()}")


@pytest.mark.parametrize("text", ["ray://10.0.0.1:10001", "http://10.0.0.1:8265"])
def test_other_ways_to_connect_are_refused_in_words(text):
    assert f"--address {text}: Consortium does not connect by {text.split(':')[0]}://" in refused(text)


def test_auto_without_a_cluster_says_how_to_start_one(monkeypatch):
    monkeypatch.setattr(address, "_found_by_ray", _nobody)
    assert refused("auto") == "no connection to Ray at auto: no Ray cluster was found on this machine"


def _nobody():
    raise ConnectionError


@pytest.mark.parametrize("named", ["ray://10.0.0.1:10001", "nonsense"])
def test_auto_with_a_bad_address_in_the_environment_names_it(named, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert named in refused("auto")


def test_auto_names_the_address_that_it_found(monkeypatch):
    port = closed_port()
    monkeypatch.setattr(address, "_found_by_ray", lambda: f"127.0.0.1:{port}")
    assert f"no connection to Ray at 127.0.0.1:{port} (auto)" in refused("auto")


def test_the_command_line_asks_before_anything_is_made(tmp_path, capsys):
    out = tmp_path / "run"
    assert main.main(["run", "quickstart", "--out", str(out), "--address", f"127.0.0.1:{closed_port()}"]) == 2
    assert "no connection to Ray at 127.0.0.1:" in capsys.readouterr().err
    assert not out.exists()
