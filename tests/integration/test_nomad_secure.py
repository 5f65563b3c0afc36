"""Guarded regions: ACL tokens, TLS from both sides, and what stands before a Nomad; each against a real one."""

import json
import pathlib
import ssl
import time

import pytest
from rig import standin
from rig.busbar import Busbar, run_busbar
from rig.certs import Authority
from rig.exits import from_sse
from rig.load import Load
from rig.nomad import Nomad
from rig.oracle import compare
from rig.proc import wait_until
from rig.proxy import Proxy
from rig.relay import HttpProxy, Relay, basic
from rig.standin import Standin, refusal
from rig.tap import Tap
from rig.wire import sent_bytes

UNKNOWN = "5ecre7ed-dead-beef-0000-0123456789ab"
NAME = "server.global.nomad"


def _busbar(server: str, env: dict | None = None, **source) -> Busbar:
    one = {"name": "prod", "type": "nomad", "servers": [server], "start": "oldest", **source}
    return Busbar({"name": "secure", "sources": [one]}, env=env)


def _trouble(server: str, env: dict | None = None, **source) -> str:
    """The first thing it says when it gets no stream."""
    with _busbar(server, env, **source) as busbar:
        return busbar.wait_log("source_backoff")


def _judge(busbar: Busbar, tap: Tap, *wires: Proxy) -> None:
    """All that the tap has came out, once, in order, without a gap."""
    with busbar.events(from_oldest=True) as client:
        wait_until(lambda: len(client.frames) >= len(tap.events), 20, f"{len(tap.events)} events")
        time.sleep(0.2)
    assert tap.intact and tap.events and busbar.status()["sources"][0]["gaps"] == 0
    compare({"prod": tap.events}, from_sse(client.frames), sent_bytes(*wires) if wires else None).assert_exact()


# ---- tokens ----


class _Guarded(Nomad):
    """Its tokens may expire soon."""

    def _config(self) -> dict:
        return {**super()._config(), "acl": {"enabled": True, "token_min_expiration_ttl": "1s"}}


@pytest.fixture(scope="module")
def guarded():
    with _Guarded(acl=True) as nomad:
        nomad.create_namespace("apps")
        nomad.register_job("web")
        nomad.register_job("other", namespace="apps")
        yield nomad


def test_a_small_token_reads_what_its_policy_says(guarded):
    reader = guarded.create_token('namespace "apps" { capabilities = ["read-job"] }')
    asked = {"filter_at": "server", "topics": ["Job", "Evaluation"], "namespace": "apps"}
    with Tap(guarded.address, reader, asked["topics"], "apps") as tap, Proxy(guarded.http_port) as wire:
        with _busbar(wire.address, token=reader, **asked) as busbar:
            busbar.wait_attached()
            for number in range(5):
                guarded.register_job(f"unseen-{number}")
                guarded.register_job(f"small-{number}", namespace="apps")
            guarded.wait_evaluated()
            tap.wait_quiet()
            _judge(busbar, tap, wire)
            assert reader not in busbar.log.read_text()
    assert {event.what[2] for event in tap.events} == {"apps"}


def test_a_refusal_names_what_each_topic_needs(guarded):
    reader = guarded.create_token('namespace "default" { policy = "read" }')
    asked = {"filter_at": "server", "topics": ["Job:web", "Evaluation", "Job:b", "Node", "ACLToken", "NodePool"]}
    line = _trouble(guarded.address, token=reader, namespace="apps", **asked)
    assert "Job, Evaluation: the capability read-job in namespace apps; " in line
    assert 'Node: node { policy = \\"read\\" }; ' in line and "ACLToken, NodePool: a management token" in line


NEEDS = {
    "namespace": ({"namespace": "apps", "topics": ["Service"]}, 'namespace "apps" { capabilities = ["read-job"] }'),
    "node": ({"topics": ["Node"]}, 'node { policy = "read" }'),
}


@pytest.mark.parametrize("asked, rules", NEEDS.values(), ids=NEEDS)
def test_what_a_refusal_names_is_enough(guarded, asked, rules):
    without, enough = guarded.create_token('node { policy = "deny" }'), guarded.create_token(rules)
    assert "may not read one of `topics`" in _trouble(guarded.address, token=without, filter_at="server", **asked)
    with _busbar(guarded.address, token=enough, filter_at="server", **asked) as busbar:
        busbar.wait_attached()


def test_a_refused_token_is_tried_rarely_and_told_once(guarded, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(f"{UNKNOWN}\n")
    with Proxy(guarded.http_port) as wire, _busbar(wire.address, token_file=str(secret)) as busbar:
        line = busbar.wait_log("source_backoff")
        time.sleep(4)
        assert "does not accept this `token_file`" in line and UNKNOWN not in busbar.log.read_text()
        assert len(busbar.log_lines("source_backoff")) == 1
        tries = [link for link in wire.links if b"/v1/event/stream" in bytes(link.request)]
        assert 2 <= len(tries) <= 6, len(tries)


def test_the_newest_nomad_says_nothing_and_is_tried_rarely():
    """200, an empty body, a close; and three questions for each try. Only a stand-in does that here."""
    server = Standin(standin.empty_close()).on("/v1/acl/token/self", refusal("200 OK", '{"Type":"client"}'))
    server.on("/v1/agent/self", refusal("403 Forbidden", "Permission denied"))
    asked = {"filter_at": "server", "topics": ["HostVolume", "CSIVolume", "Job"], "namespace": "apps"}
    with server, _busbar(server.address, token=UNKNOWN, **asked) as busbar:
        line = busbar.wait_log("source_backoff")
        time.sleep(3)
        assert "HostVolume: the capability host-volume-read in namespace apps" in line
        assert "CSIVolume: the capability csi-read-volume in namespace apps" in line
        assert len(busbar.log_lines("source_backoff")) == 1
        streams = [request for request in server.requests if request.path == "/v1/event/stream"]
        assert 2 <= len(streams) <= 6, len(streams)


MANAGEMENT = {"Type": "management"}
SIZES = {
    "management": (MANAGEMENT, {}),
    "small": ({"Type": "client", "Policies": ["jobs"]}, {"filter_at": "server", "topics": ["Job", "Evaluation"]}),
}


def _put(path: pathlib.Path, text: str) -> None:
    """At once, as what writes tokens does: nobody reads half of it."""
    path.with_suffix(".next").write_text(text)
    path.with_suffix(".next").rename(path)


def _shown(wire: Proxy, token: str) -> bool:
    """Was a stream asked for by it?"""
    asked = [bytes(link.request) for link in list(wire.links)]
    return any(b"/v1/event/stream" in one and token.encode() in one for one in asked)


@pytest.mark.parametrize("token, asked", SIZES.values(), ids=SIZES)
def test_a_token_file_that_rotates_costs_nothing(guarded, tmp_path, token, asked):
    """The new one is written, the old one revoked: Nomad ends the stream, the next one shows the new token."""
    guarded.api("PUT", "/v1/acl/policy/jobs", {"Name": "jobs", "Rules": 'namespace "*" { policy = "read" }'})
    secret = tmp_path / "token"
    old = guarded.make_token(token)
    _put(secret, old[1])
    topics = asked.get("topics", ["*"])
    with Tap(guarded.address, guarded.token, topics) as tap, Proxy(guarded.http_port) as wire:
        with _busbar(wire.address, token_file=str(secret), **asked) as busbar, Load(guarded, rate=60) as load:
            busbar.wait_attached()
            for _ in range(2):
                new = guarded.make_token(token)
                _put(secret, f"{new[1]}\n")
                time.sleep(0.5)
                guarded.revoke_token(old[0])
                wait_until(lambda: _shown(wire, new[1]), 20, "a stream with the new token")
                busbar.wait_attached()
                old = new
                tap.wait_events(len(tap.events) + 50)
            load.stop()
            tap.wait_all(guarded)
            _judge(busbar, tap, wire)
            assert len(busbar.log_lines("token_file_changed")) == 2
            assert "was the token or its policy changed?" in busbar.log_lines("source_backoff")[0]
            assert new[1] not in busbar.log.read_text()


def test_a_token_that_expires_costs_nothing(guarded, tmp_path):
    """Nomad ends the stream with the first event that comes behind the token's time."""
    secret = tmp_path / "token"
    with Tap(guarded.address, guarded.token) as tap, Proxy(guarded.http_port) as wire:
        _put(secret, guarded.make_token({**MANAGEMENT, "ExpirationTTL": "8s"})[1])  # time enough to attach
        with _busbar(wire.address, token_file=str(secret)) as busbar, Load(guarded, rate=30) as load:
            busbar.wait_attached()
            _put(secret, guarded.make_token(MANAGEMENT)[1])
            assert "token expired" in busbar.wait_log("event=source_backoff")
            tap.wait_events(len(tap.events) + 30)
            load.stop()
            tap.wait_all(guarded)
            _judge(busbar, tap, wire)


def test_a_token_that_comes_late_is_taken_at_once(guarded, tmp_path):
    """Revoked before the file has the new one: the wait for the next try ends when it does."""
    secret = tmp_path / "token"
    old, new = guarded.make_token(MANAGEMENT), guarded.make_token(MANAGEMENT)
    _put(secret, old[1])
    with Tap(guarded.address, guarded.token) as tap, _busbar(guarded.address, token_file=str(secret)) as busbar:
        busbar.wait_attached()
        guarded.revoke_token(old[0])
        busbar.wait_log("does not accept this `token_file`")
        guarded.register_job("meanwhile")
        time.sleep(8)  # tries are many seconds apart by now
        _put(secret, new[1])
        wait_until(busbar.is_attached, 5, "attached with the new token")
        tap.wait_all(guarded)
        _judge(busbar, tap)


def test_an_emptied_token_file_keeps_the_last_good_token(guarded, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(guarded.token)
    with Proxy(guarded.http_port) as wire, _busbar(wire.address, token_file=str(secret)) as busbar:
        busbar.wait_attached()
        secret.write_text("")
        for _ in range(3):
            links = len(wire.links)
            wire.cut()
            wait_until(lambda before=links: len(wire.links) > before, 10, "another connection")
            busbar.wait_attached()
        (line,) = busbar.log_lines("token_file_unreadable")
        assert "level=warn" in line and "it is empty" in line and "last token" in line
        assert busbar.status()["sources"][0]["gaps"] == 0


# ---- TLS ----


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("theirs"), "another")


@pytest.fixture(scope="module")
def client(ours):
    """The settings that are right."""
    cert, key = ours.sign("client")
    return {"tls_ca": str(ours.ca), "tls_cert": cert, "tls_key": key, "tls_server_name": NAME}


@pytest.fixture(scope="module")
def locked(ours, client):
    """Its certificate is for server.global.nomad only, as those that `nomad tls cert create` makes."""
    cert, key = ours.sign("server", f"DNS:{NAME}")
    tls = {"http": True, "verify_https_client": True, "ca_file": str(ours.ca), "cert_file": cert, "key_file": key}
    server = Nomad(tls=tls)
    server.rig_tls = ssl.create_default_context(cafile=str(ours.ca))
    server.rig_tls.check_hostname = False
    server.rig_tls.load_cert_chain(client["tls_cert"], client["tls_key"])
    with server as nomad:
        yield nomad


def test_both_sides_show_certificates(locked, client):
    locked.register_job("locked")
    with Tap(locked.address, tls=locked.rig_tls) as tap, _busbar(locked.address, **client) as busbar:
        busbar.wait_attached()
        for number in range(5):
            locked.register_job(f"locked-{number}")
        tap.wait_all(locked)
        _judge(busbar, tap)
        assert f"server={locked.address}" in busbar.wait_log("event=source_attached")


@pytest.mark.parametrize("kind", ("nomad", "nomad_blocking"))
def test_a_snapshot_is_read_the_same_way(locked, client, kind):
    with _busbar(locked.address, type=kind, start="snapshot", **client) as busbar:
        assert "objects=0" not in busbar.wait_log("event=resync_finished")
        busbar.wait_attached()


def test_renewed_files_are_read_by_the_next_connection(locked, ours, theirs, client, tmp_path):
    files = {name: tmp_path / name for name in ("tls_ca", "tls_cert", "tls_key")}

    def put(ca, cert, key):
        for name, content in zip(files, (ca, cert, key)):
            files[name].write_bytes(pathlib.Path(content).read_bytes())

    put(theirs.ca, *theirs.sign("old"))
    paths = {name: str(path) for name, path in files.items()}
    with _busbar(locked.address, **{**client, **paths}) as busbar:
        busbar.wait_log("signed by another CA")
        put(ours.ca, client["tls_cert"], client["tls_key"])
        busbar.wait_attached()


MISTAKES = {
    "another CA": ({"tls_ca": "theirs"}, "signed by another CA than that in `tls_ca`"),
    "no CA": ({"tls_ca": ""}, "name its CA's file in `tls_ca`"),
    "no name": ({"tls_server_name": ""}, "is for another name"),
    "another name": ({"tls_server_name": "server.other.nomad"}, "`tls_server_name`"),
    "no certificate": ({"tls_cert": "", "tls_key": ""}, "set `tls_cert` and `tls_key`"),
    "a stranger's": ({"tls_cert": "stranger", "tls_key": "stranger's"}, "is `tls_cert` signed by the server's CA"),
    "another key": ({"tls_key": "stranger's"}, "is `tls_key` the key of `tls_cert`"),
}


@pytest.mark.parametrize("wrong, hint", MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_with_certificates_is_said(locked, client, theirs, wrong, hint):
    cert, key = theirs.sign("stranger")
    files = {"theirs": str(theirs.ca), "stranger": cert, "stranger's": key}
    settings = {**client, **{name: files.get(value, value) for name, value in wrong.items()}}
    line = _trouble(locked.address, **settings)
    assert hint in line and f"server={locked.address}" in line, line


def test_http_to_a_tls_port_and_https_to_a_plain_one(locked, guarded, client):
    assert "write https:// in `servers`" in _trouble(locked.address.replace("https:", "http:"))
    plain = guarded.address.replace("http:", "https:")
    assert "a port that speaks plain http needs http://" in _trouble(plain, connect_timeout="1s", **client)


# ---- what stands before it ----


def test_a_unix_socket(nomad, tmp_path):
    with Tap(nomad.address) as tap, Relay(nomad.http_port, path=tmp_path / "api.sock") as relay:
        with _busbar(relay.address, env={"http_proxy": "http://127.0.0.1:9"}) as busbar:
            busbar.wait_attached()
            nomad.register_job("by-socket")
            tap.wait_all(nomad)
            _judge(busbar, tap)
            assert f"server={relay.address}" in busbar.wait_log("event=source_attached")
    assert relay.heads[0][1]["host"] == "localhost"
    assert "socket of a running server" in _trouble(f"unix://{tmp_path}/none.sock")


def test_basic_authentication_and_the_token_both_arrive(guarded):
    given = {"username": "bus", "password": "pa:ss wörd", "token": guarded.token, "headers": {"X-Team": "one, two"}}
    credentials = basic("bus", "pa:ss wörd")
    with Relay(guarded.http_port, credentials=credentials) as gate:
        with _busbar(gate.address, start="snapshot", **given) as busbar:
            busbar.wait_log("event=resync_finished")
            log = busbar.log.read_text()
        for _, fields in gate.heads:
            assert fields["authorization"] == credentials and fields["x-nomad-token"] == guarded.token
            assert fields["x-team"] == "one, two" and fields["host"] == f"127.0.0.1:{gate.port}"
        assert len(gate.heads) >= 2 and not any(secret in log for secret in ("wörd", guarded.token, credentials[6:]))
        assert "this `username` and `password`" in _trouble(gate.address, **{**given, "password": "no"})
        assert "set `username` and `password`" in _trouble(gate.address)


def test_an_http_proxy(nomad):
    with HttpProxy(credentials=basic("bus", "s@crt/")) as proxy:
        good = f"http://bus:s%40crt%2F@127.0.0.1:{proxy.port}"
        with _busbar(nomad.address, proxy=good, env={"no_proxy": "127.0.0.1"}) as busbar:
            busbar.wait_attached()
            assert f"server={nomad.address}" in busbar.wait_log("event=source_attached")
            assert not any(secret in busbar.log.read_text() for secret in ("s@crt/", "s%40crt"))
        assert any(line.startswith(f"GET {nomad.address}/v1/event/stream?") for line, _ in proxy.heads)
        line = _trouble(nomad.address, proxy=good.replace("s%40crt", "wrong"))
        assert "the proxy wants other credentials (407)" in line and "wrong" not in line
    assert "is the `proxy` up" in _trouble(nomad.address, proxy=good)


def test_an_http_proxy_before_tls(locked, client):
    with HttpProxy(credentials=basic("bus", "secret")) as proxy:
        good = f"http://bus:secret@127.0.0.1:{proxy.port}"
        with _busbar(locked.address, proxy=good, **client) as busbar:
            busbar.wait_attached()
        assert proxy.heads[0][0] == f"CONNECT 127.0.0.1:{locked.http_port} HTTP/1.1"
        line = _trouble(locked.address, proxy=good.replace("secret", "wrong"), **client)
        assert "the proxy wants other credentials (407)" in line


def test_the_environments_proxy_and_none(nomad):
    with HttpProxy() as proxy:
        env = {"http_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": ""}
        for setting, through in (({}, True), ({"proxy": "none"}, False)):
            before = len(proxy.heads)
            with _busbar(nomad.address, env, **setting) as busbar:
                busbar.wait_attached()
            assert (len(proxy.heads) > before) == through


def test_a_nomad_that_says_http_0_0_behind_all_of_this(tmp_path):
    """Spoken by hand after libcurl has connected (hashicorp/nomad #27582): through a proxy, with every header."""

    class Odd(standin.Answer):
        def head(self) -> bytes:
            return super().head().replace(b"HTTP/1.1", b"HTTP/0.0")

    given = {"username": "bus", "password": "pw", "token": UNKNOWN, "headers": {"X-Team": "one", "User-Agent": "we"}}
    with Standin(Odd(b"{}\n", standin.event_line(7), standin.HOLD, chunked=False)) as server, HttpProxy() as proxy:
        with _busbar(server.address, proxy=f"http://127.0.0.1:{proxy.port}", **given) as busbar:
            busbar.wait_attached()
        sent = server.requests[-1].headers
        assert sent["authorization"] == basic("bus", "pw") and sent["x-nomad-token"] == UNKNOWN
        assert sent["x-team"] == "one" and sent["user-agent"] == "we"
        assert any(line.startswith("CONNECT ") for line, _ in proxy.heads)  # and for what is asked aside GET
        with Relay(server.port, path=tmp_path / "api.sock") as relay, _busbar(relay.address) as busbar:
            busbar.wait_attached()


def test_regions(nomad):
    assert "check `region`" in _trouble(nomad.address, region="atlantis")
    with _busbar(nomad.address, region="global") as busbar:
        busbar.wait_attached()


# ---- the configuration ----


CONFIGURATIONS = {
    "two tokens": ({"token": "t0ps3cret", "token_file": "TOKEN"}, "token and token_file: expected one of them"),
    "no token file": ({"token_file": "nowhere"}, "a file that can be read and holds one token"),
    "certificate without key": ({"tls_cert": "CERT"}, "tls_cert without tls_key"),
    "key without certificate": ({"tls_key": "KEY"}, "tls_key without tls_cert"),
    "no such file": ({"tls_ca": "nowhere"}, "a PEM file that can be read, with certificates in it"),
    "a key as certificate": ({"tls_cert": "KEY", "tls_key": "KEY"}, "with certificates in it"),
    "a certificate as key": ({"tls_cert": "CERT", "tls_key": "CERT"}, "with a private key in it"),
    "a locked key": ({"tls_cert": "CERT", "tls_key": "LOCKED"}, "a key without a passphrase"),
    "TLS without https": ({"tls_ca": "CA", "servers": ["http://a:4646"]}, "no https:// in servers"),
    "odd server name": ({"tls_server_name": "server global"}, "a host name, as the servers' certificates have it"),
    "password alone": ({"password": "t0ps3cret"}, "password without username"),
    "user with colon": ({"username": "a:b"}, "a name without a colon"),
    "odd proxy": ({"proxy": "socks5://t0ps3cret:1080"}, 'a value that is not shown: expected http://HOST:PORT'),
    "proxy without port": ({"proxy": "http://t0ps3cret@host"}, "expected http://HOST:PORT"),
    "token as header": ({"headers": {"x-nomad-token": "t0ps3cret"}}, "expected token or token_file"),
    "host": ({"headers": {"Host": "b"}}, "expected another address in servers"),
    "authorization twice": ({"username": "a", "headers": {"Authorization": "t0ps3cret"}}, "not both"),
    "line break": ({"headers": {"X-A": "t0ps3cret\r\nX-B: c"}}, "text without line breaks"),
    "odd header": ({"headers": {"X A": "b"}}, "no name for a header"),
    "one header twice": ({"headers": {"X-A": "b", "x-a": "c"}}, "header x-a a second time"),
    "odd socket": ({"servers": ["unix://api.sock"]}, "unix:///PATH of a socket"),
    "long socket": ({"servers": [f"unix:///{'a' * 108}"]}, "unix:///PATH of a socket"),
}


@pytest.mark.parametrize("source, hint", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_check_finds_what_cannot_work(source, hint, ours, client, tmp_path):
    (tmp_path / "token").write_text("t0ps3cret\n")
    (tmp_path / "locked").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    files = {"TOKEN": tmp_path / "token", "LOCKED": tmp_path / "locked", "CA": ours.ca}
    files |= {"CERT": client["tls_cert"], "KEY": client["tls_key"]}
    one = {"name": "prod", "type": "nomad", "servers": ["https://nomad:4646"], **source}
    one = {name: str(files.get(value, value)) if isinstance(value, str) else value for name, value in one.items()}
    path = tmp_path / "busbar.yaml"
    path.write_text(json.dumps({"name": "secure", "http": {"listen": "127.0.0.1:1"}, "sources": [one]}, indent=1))
    found = run_busbar("check", "-c", path)
    assert found.returncode == 2 and hint in found.stderr, found.stderr
    assert "t0ps3cret" not in found.stderr
