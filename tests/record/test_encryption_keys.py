"""Where master keys come from, and what happens when keys are rotated."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import httpx2
import hvac
import pytest
import redis
from click.testing import CliRunner
from django.db import connection, transaction
from django.utils import timezone
from django_tenants.utils import schema_context, tenant_context
from moto.server import ThreadedMotoServer

from agentvoicebox.cli import encryption as commands
from agentvoicebox.stack import processes
from celery_workers import privacy as worker
from realtime.recordings.models import Part, Policy, Recording
from realtime.recordings.operations import store_part
from realtime.recordings.playback import Playback
from realtime.recordings.storage import storage
from realtime.runtime.recorder import CallSheet
from tenants.audit.models import Entry
from tenants.encryption import accounting, data_keys, keyring, master, operations, resealing
from tenants.encryption.errors import (
    EncryptionError,
    KeySourceUnavailable,
    MasterKeyInvalid,
    MasterKeyMissing,
    Tampered,
    WrongKey,
)
from tenants.encryption.models import DataKey
from tenants.encryption.sealing import seal, sealed_version, unseal
from tenants.people import sign_on
from tenants.people.models import SingleSignOn
from tests.record.test_encryption import Diary, Login, stored, tables
from tests.record.world import BEEP, BEGUN, House, World

__all__ = ["tables"]


@pytest.fixture(autouse=True)
def fresh_keys(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[None]:
    if "world" in request.fixturenames:
        request.getfixturevalue("world")
        DataKey.objects.all().delete()
    keyring.forget_master_keys()
    data_keys.cache.clear()
    yield
    keyring.forget_master_keys()
    data_keys.cache.clear()


@pytest.fixture
def no_keys_left(committed: World) -> Iterator[World]:
    """For tests that commit."""
    DataKey.objects.all().delete()
    yield committed
    DataKey.objects.all().delete()


def new_master() -> str:
    return base64.b64encode(master.new_key()).decode()


# --- a file ---


def test_a_key_file_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "master"
    master.write_key_file(file)
    assert file.stat().st_mode & 0o777 == 0o600
    key = master.open_master_key(f"file:{file}")
    wrapped, key_id = key.wrap(b"k" * 32, b"context")
    assert key.unwrap(wrapped, b"context") == b"k" * 32
    assert key.opens(key_id)
    with pytest.raises(FileExistsError):
        master.write_key_file(file)
    for mode, refused in ((0o640, False), (0o400, False), (0o644, True), (0o660, True), (0o604, True)):
        file.chmod(mode)
        if refused:
            with pytest.raises(MasterKeyInvalid, match="chmod 600"):
                master.open_master_key(f"file:{file}")
        else:
            assert master.open_master_key(f"file:{file}").opens(key_id)


@pytest.mark.parametrize("content", ["", "short", "A" * 44, base64.b64encode(bytes(31)).decode(), "\0" * 32])
def test_a_file_without_a_key_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "master"
    file.touch(mode=0o600)
    file.write_text(content)
    with pytest.raises(MasterKeyInvalid, match="32 random bytes"):
        master.open_master_key(f"file:{file}")
    with pytest.raises(MasterKeyMissing, match="new-master"):
        master.open_master_key(f"file:{tmp_path / 'elsewhere'}")


@pytest.mark.parametrize(
    "written", ["", "x", "A" * 43, "gpg:key", "vault-transit:", "vault-kv:secret/x", "vault-kv:x#y", "vault-transit:x"]
)
def test_what_names_no_master_key_is_refused(written: str) -> None:
    with pytest.raises(MasterKeyInvalid):
        master.open_master_key(written)


# --- Vault ---


@pytest.fixture(scope="module")
def vault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from agentvoicebox.stack import ports

    port = ports.find_free_port()
    address = f"http://127.0.0.1:{port}"
    home = tmp_path_factory.mktemp("vault")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("bao")), "server", "-dev", "-dev-root-token-id=root",
                f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token",
            ],
            env={"HOME": str(home), "PATH": os.environ["PATH"]}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        client = hvac.Client(url=address, token="root")
        deadline = time.monotonic() + 60
        while True:
            try:
                if client.sys.is_initialized() and not client.sys.is_sealed():
                    break
            except Exception:
                assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.1)
        client.sys.enable_secrets_engine("transit")
        client.secrets.transit.create_key("avb")
        client.secrets.transit.create_key("other")
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def vault(vault_server: str, monkeypatch: pytest.MonkeyPatch) -> hvac.Client:
    monkeypatch.setenv("VAULT_ADDR", vault_server)
    monkeypatch.setenv("VAULT_TOKEN", "root")
    return hvac.Client(url=vault_server, token="root")


def test_vault_wraps_without_giving_its_key_away(world: World, vault: hvac.Client, settings) -> None:
    settings.MASTER_KEY = "vault-transit:transit/avb"
    sealed = seal("alpha", b"by vault", purpose="p")
    row = DataKey.objects.get()
    assert bytes(row.wrapped).startswith(b"vault:v1:")
    assert row.master_key_id == "vault-transit:transit/avb:v1"
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"by vault"
    # Vault binds what it wraps to the tenant and version, too.
    DataKey.objects.update(version=2)
    data_keys.cache.clear()
    with pytest.raises(WrongKey):
        seal("alpha", b"", purpose="p")


def test_a_key_that_vault_rotates_wraps_all_data_keys_anew(world: World, vault: hvac.Client, settings) -> None:
    settings.MASTER_KEY = "vault-transit:transit/avb"
    sealed = [seal(tenant, b"kept", purpose="p") for tenant in ("alpha", "beta")]
    vault.secrets.transit.rotate_key("avb")
    assert operations.rewrap_data_keys() == 2
    assert {bytes(key.wrapped).split(b":")[1] for key in DataKey.objects.all()} != {b"v1"}
    assert operations.rewrap_data_keys() == 0
    data_keys.cache.clear()
    assert [unseal(tenant, value, purpose="p") for tenant, value in zip(("alpha", "beta"), sealed, strict=True)] == [
        b"kept", b"kept",
    ]  # fmt: skip


def test_the_key_may_lie_in_vaults_store(world: World, vault: hvac.Client, settings, tmp_path, monkeypatch) -> None:
    first, second = new_master(), new_master()
    vault.secrets.kv.v2.create_or_update_secret("avb", secret={"master": first}, mount_point="secret")
    settings.MASTER_KEY = "vault-kv:secret/avb#master"
    sealed = seal("alpha", b"by store", purpose="p")
    vault.secrets.kv.v2.create_or_update_secret("avb", secret={"master": second}, mount_point="secret")
    settings.MASTER_KEYS_PREVIOUS = ["vault-kv:secret/avb#master@1"]
    assert operations.rewrap_data_keys() == 1
    settings.MASTER_KEYS_PREVIOUS = []
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"by store"
    for written, error in (
        ("vault-kv:secret/nothing#master", MasterKeyMissing),
        ("vault-kv:secret/avb#nothing", MasterKeyMissing),
        ("vault-kv:secret/avb#master@x", MasterKeyInvalid),
    ):
        with pytest.raises(error):
            master.open_master_key(written)
    token = tmp_path / "token"
    token.write_text("root\n")
    monkeypatch.setenv("AVB_VAULT_TOKEN_FILE", str(token))
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    assert master.open_master_key("vault-kv:secret/avb#master").opens(DataKey.objects.get().master_key_id)
    token.write_text("wrong\n")
    with pytest.raises(KeySourceUnavailable, match="Forbidden"):
        master.open_master_key("vault-kv:secret/avb#master")


def test_a_vault_that_is_away_is_named_and_tried_again(world: World, vault, settings, monkeypatch, free_port) -> None:
    settings.MASTER_KEY = "vault-transit:transit/avb"
    sealed = seal("alpha", b"kept", purpose="p")
    data_keys.cache.clear()
    right = os.environ["VAULT_ADDR"]
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(KeySourceUnavailable, match="Vault"):
        unseal("alpha", sealed, purpose="p")
    monkeypatch.setenv("VAULT_ADDR", right)
    assert unseal("alpha", sealed, purpose="p") == b"kept"


# --- AWS ---


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx2.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers what it has read
    yield boto3.client("secretsmanager")
    server.stop()


def test_the_key_may_lie_in_aws_secrets_manager(world: World, aws, settings) -> None:
    aws.create_secret(Name="avb/master", SecretString=new_master())
    settings.MASTER_KEY = "aws:avb/master"
    sealed = seal("alpha", b"by aws", purpose="p")
    aws.put_secret_value(SecretId="avb/master", SecretBinary=master.new_key())
    settings.MASTER_KEYS_PREVIOUS = ["aws:avb/master@AWSPREVIOUS"]
    assert operations.rewrap_data_keys() == 1
    settings.MASTER_KEYS_PREVIOUS = []
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"by aws"
    with pytest.raises(MasterKeyMissing, match="no secret"):
        master.open_master_key("aws:nothing")


def test_a_key_that_is_replaced_at_its_place_is_read_again(world: World, aws, settings, monkeypatch) -> None:
    monkeypatch.setattr(keyring, "_refreshes", keyring._Refreshes())
    aws.create_secret(Name="avb/master", SecretString=new_master())
    settings.MASTER_KEY = "aws:avb/master"
    sealed = seal("alpha", b"kept", purpose="p")
    # Another process wraps by the next key, while this one holds the first.
    first = keyring.current_master_key()
    following = new_master()
    aws.put_secret_value(SecretId="avb/master", SecretString=following)
    row = DataKey.objects.get()
    context = data_keys.wrapping_context("alpha", 1)
    other = master.open_master_key(following)
    row.wrapped, row.master_key_id = other.wrap(first.unwrap(bytes(row.wrapped), context), context)
    row.save()
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"kept"
    DataKey.objects.update(master_key_id="local:nobody")
    data_keys.cache.clear()
    asked: list = []
    monkeypatch.setattr(master, "_read_aws", lambda place: asked.append(place) or following)
    for _ in range(5):
        with pytest.raises(MasterKeyMissing):
            unseal("alpha", sealed, purpose="p")
    assert asked == [], "not with each failure"


def test_aws_that_is_away_is_named(aws, monkeypatch, free_port) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(KeySourceUnavailable, match="AWS"):
        master.open_master_key("aws:avb/master")


# --- rotation ---


def test_a_new_master_key_opens_nothing_until_it_has_wrapped_and_everything_then(world: World, settings) -> None:
    sealed = {tenant: seal(tenant, tenant.encode(), purpose="p") for tenant in ("alpha", "beta", "public")}
    old = settings.MASTER_KEY
    settings.MASTER_KEY, settings.MASTER_KEYS_PREVIOUS = new_master(), [old]
    seal("late", b"", purpose="p")
    data_keys.cache.clear()
    assert unseal("alpha", sealed["alpha"], purpose="p") == b"alpha"
    assert operations.rewrap_data_keys() == 3
    assert operations.rewrap_data_keys() == 0
    settings.MASTER_KEYS_PREVIOUS = []
    data_keys.cache.clear()
    assert all(unseal(tenant, value, purpose="p") == tenant.encode() for tenant, value in sealed.items())
    entry = Entry.objects.get(action="master_key.rotated")
    assert entry.after == {"data_keys": 3}
    settings.MASTER_KEY = old
    data_keys.cache.clear()
    with pytest.raises(MasterKeyMissing):
        unseal("alpha", sealed["alpha"], purpose="p")


def test_a_rewrap_that_ends_half_way_goes_on_later(world: World, settings, monkeypatch) -> None:
    monkeypatch.setattr(operations, "REWRAP_KEYS", 1)
    for tenant in ("alpha", "beta"):
        seal(tenant, b"", purpose="p")
    DataKey.objects.filter(tenant="beta").update(master_key_id="local:lost")
    settings.MASTER_KEYS_PREVIOUS, settings.MASTER_KEY = [settings.MASTER_KEY], new_master()
    with pytest.raises(MasterKeyMissing, match="local:lost"):
        operations.rewrap_data_keys()
    new_id = keyring.current_master_key().current_id()
    assert dict(DataKey.objects.values_list("tenant", "master_key_id")) == {"alpha": new_id, "beta": "local:lost"}


def test_a_new_data_key_seals_and_the_old_one_still_opens(world: World) -> None:
    old = seal("alpha", b"old", purpose="p")
    assert operations.rotate_data_key(tenant="alpha") == 2
    data_keys.cache.clear()
    new = seal("alpha", b"new", purpose="p")
    assert (sealed_version(old), sealed_version(new)) == (1, 2)
    assert [unseal("alpha", value, purpose="p") for value in (old, new)] == [b"old", b"new"]
    with tenant_context(world.alpha.tenant):
        assert Entry.objects.get(action="data_key.rotated").after == {"version": 2}


def test_keys_of_age_are_rotated(world: World) -> None:
    for tenant in ("alpha", "beta"):
        seal(tenant, b"", purpose="p")
    DataKey.objects.filter(tenant="beta").update(created_at=timezone.now() - timedelta(days=365))
    assert operations.rotate_aged_keys(days=365) == 1
    assert operations.rotate_aged_keys(days=365) == 0
    assert set(DataKey.objects.filter(state="active").values_list("tenant", "version")) == {("alpha", 1), ("beta", 2)}


def test_destroyed_keys_open_nothing_any_more(world: World) -> None:
    sealed = {tenant: seal(tenant, b"", purpose="p") for tenant in ("alpha", "beta")}
    assert operations.destroy_data_keys(tenant="alpha") == 1
    data_keys.cache.clear()
    with pytest.raises(WrongKey):
        unseal("alpha", sealed["alpha"], purpose="p")
    assert unseal("beta", sealed["beta"], purpose="p") == b""
    assert operations.destroy_data_keys(tenant="alpha") == 0


@pytest.fixture
def sealed_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def fields(*, in_tenant_schema: bool):
        model_fields = [Diary._meta.get_field("text"), Diary._meta.get_field("extra"), Login._meta.get_field("secret")]
        return iter([field for field in model_fields if bool(field.tenant) is not in_tenant_schema])

    monkeypatch.setattr(resealing, "sealed_fields", fields)
    monkeypatch.setattr(resealing, "BY_HAND", [])


def test_rows_are_sealed_anew_in_batches_and_broken_ones_are_left(tables: World, sealed_models, settings) -> None:
    settings.RESEAL_BATCH_ROWS = 2
    for house in (tables.alpha, tables.beta):
        with tenant_context(house.tenant):
            for number in range(5):
                Diary.objects.create(text=f"{number}", extra=[number] if number % 2 else None)
            Diary.objects.create()
        Login.objects.create(tenant=house.tenant, secret=f"of {house.tenant.slug}")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE alpha.encryption_diary SET text = set_byte(text, 30, 0) WHERE id = 2")
        cursor.execute("UPDATE alpha.encryption_diary SET text = set_byte(text, 31, 0) WHERE id = 2")
    operations.rotate_data_key(tenant="alpha")
    data_keys.cache.clear()
    assert resealing.reseal_rows(tenant="alpha") == (4 + 2 + 1, 1)
    assert resealing.reseal_rows(tenant="alpha") == (0, 1)
    data_keys.cache.clear()
    DataKey.objects.filter(tenant="beta").exists()
    with tenant_context(tables.alpha.tenant):
        rows = {row.pk: row for row in Diary.objects.all()}
        assert [rows[number].text for number in (1, 3, 4, 5, 6)] == ["0", "2", "3", "4", ""]
        assert rows[2].extra == [1]
        with pytest.raises(Tampered):
            _ = rows[2].text
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT get_byte(text, 8) FROM alpha.encryption_diary WHERE text <> '' AND id <> 2")
        assert cursor.fetchall() == [(2,)]
        cursor.execute("SELECT DISTINCT get_byte(text, 8) FROM beta.encryption_diary WHERE text <> ''")
        assert cursor.fetchall() == [(1,)]
    assert {login.secret for login in Login.objects.all()} == {"of alpha", "of beta"}
    assert (
        stored("encryption_login WHERE tenant_id = (SELECT id FROM tenants_tenant WHERE slug = 'alpha')", "secret")[8]
        == 2
    )


def test_recordings_are_sealed_anew_and_a_lost_one_stops_no_other(
    world: World, settings, tmp_path, monkeypatch
) -> None:
    settings.RECORDING_DIR = tmp_path / "recordings"
    monkeypatch.setattr(worker, "close_old_connections", lambda: None)
    with tenant_context(world.alpha.tenant):
        Policy.objects.all().delete()
        Recording.objects.all().delete()
        for number in range(3):
            sheet = CallSheet(tenant="alpha", session_id=f"sess_{number}", started_at=BEGUN)
            store_part(sheet=sheet, index=0, pcm=BEEP[: 1000 + number], part_samples=len(BEEP))
        keys = sorted(storage().keys("alpha/"))
    storage().delete(keys[1])
    operations.rotate_data_key(tenant="alpha")
    data_keys.cache.clear()
    asked: list = []
    monkeypatch.setattr(worker, "submit", lambda *message: asked.append(message))
    monkeypatch.setattr(worker, "ROUND_S", -1.0)
    worker.reseal(tenant="alpha")
    assert asked == [("celery_workers.privacy.reseal", "default", {"tenant": "alpha", "after": keys[0]})]
    monkeypatch.setattr(worker, "ROUND_S", 3.0)
    worker.reseal(**asked[0][2])
    assert [sealed_version(storage().get(key)) for key in (keys[0], keys[2])] == [2, 2]
    with tenant_context(world.alpha.tenant):
        assert dict(Part.objects.values_list("object_key", "key_version")) == {keys[0]: 2, keys[1]: 1, keys[2]: 2}
        for part in Part.objects.exclude(object_key=keys[1]).select_related("recording"):
            assert len(Playback.of(part.recording).decode_part(0)) == part.samples
    worker.reseal(tenant="public")


def test_secrets_that_a_room_seals_itself_are_sealed_anew(world: World) -> None:
    def connect(house: House) -> SingleSignOn:
        tenant = house.tenant
        sealed = seal(tenant.schema_name, b"s3cret", purpose=sign_on.PURPOSE)
        return SingleSignOn.objects.create(
            tenant=tenant,
            public_id=f"sso_{tenant.slug}",
            issuer="https://id.example",
            client_id="c",
            sealed_secret=sealed,
        )

    ours, theirs = connect(world.alpha), connect(world.beta)
    operations.rotate_data_key(tenant="alpha")
    data_keys.cache.clear()
    assert resealing.reseal_rows(tenant="alpha")[0] >= 1
    ours.refresh_from_db()
    theirs.refresh_from_db()
    assert sealed_version(bytes(ours.sealed_secret)) == 2
    assert unseal("alpha", bytes(ours.sealed_secret), purpose=sign_on.PURPOSE) == b"s3cret"
    assert sealed_version(bytes(theirs.sealed_secret)) == 1


def test_the_product_finds_its_own_sealed_fields() -> None:
    for in_tenant_schema in (True, False):
        for field in resealing.sealed_fields(in_tenant_schema=in_tenant_schema):
            assert bool(field.tenant) is not in_tenant_schema, f"{field.purpose} lives in the other kind of schema"


def test_rotations_stop_nobody_who_reads_and_writes(no_keys_left: World, settings) -> None:
    """Four threads seal and unseal for three seconds while data keys and the master key change under them."""
    settings.DATA_KEY_CACHE_S = 0
    deadline = time.monotonic() + 3
    counts, faults, versions = [0] * 4, [], set()

    def work(number: int) -> None:
        tenant = ("alpha", "beta")[number % 2]
        kept: list[tuple[bytes, bytes]] = []
        try:
            while time.monotonic() < deadline:
                plain = os.urandom(20)
                with transaction.atomic():
                    sealed = seal(tenant, plain, purpose="p")
                versions.add(sealed_version(sealed))
                kept.append((sealed, plain))
                for value, expected in kept[-3:]:
                    assert unseal(tenant, value, purpose="p") == expected
                counts[number] += 1
            assert all(unseal(tenant, value, purpose="p") == expected for value, expected in kept[:20])
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < deadline - 0.3:
        operations.rotate_data_key(tenant="alpha")
        operations.rotate_data_key(tenant="beta")
        settings.MASTER_KEYS_PREVIOUS = [settings.MASTER_KEY, *settings.MASTER_KEYS_PREVIOUS]
        settings.MASTER_KEY = new_master()
        operations.rewrap_data_keys()
        time.sleep(0.1)
    for thread in threads:
        thread.join(30)
    assert faults == []
    assert min(counts) > 5
    assert len(versions) > 3


def test_many_who_need_a_tenants_first_key_at_once_get_the_same(no_keys_left: World) -> None:
    barrier = threading.Barrier(6)
    sealed: list[bytes] = []

    def work() -> None:
        try:
            barrier.wait(10)
            with transaction.atomic():
                sealed.append(seal("alpha", b"x", purpose="p"))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert DataKey.objects.count() == 1
    assert [unseal("alpha", value, purpose="p") for value in sealed] == [b"x"] * 6


# --- on record ---


def test_uses_and_refusals_reach_the_audit_log(world: World, valkey_url: str) -> None:
    sealed = seal("alpha", b"x", purpose="p")
    for _ in range(2):
        data_keys.cache.clear()
        unseal("alpha", sealed, purpose="p")
    for _ in range(3):
        with pytest.raises(EncryptionError), transaction.atomic():
            unseal("alpha", sealed, purpose="q")
    assert operations.enter_counts() == 2
    assert operations.enter_counts() == 0
    with tenant_context(world.alpha.tenant):
        entries = {entry.action: entry for entry in Entry.objects.filter(action__startswith="data_key.")}
    assert entries["data_key.unwrapped"].after["version"] == 1
    assert entries["data_key.unwrapped"].after["count"] >= 3
    assert entries["data_key.refused"].after == {"version": 1, "count": 3, "reason": "tampered"}
    with redis.Redis.from_url(valkey_url) as client:
        assert client.keys("avb:*data_keys*") == []


def test_a_count_that_comes_while_others_are_entered_is_kept(world: World, valkey_url: str, monkeypatch) -> None:
    accounting.count_unwrap("alpha", 1)
    enter = operations.record

    def record_and_count(**what):
        accounting.count_unwrap("alpha", 1)
        return enter(**what)

    monkeypatch.setattr(operations, "record", record_and_count)
    assert operations.enter_counts() == 1
    with redis.Redis.from_url(valkey_url) as client:
        assert client.hgetall(accounting.counts_key("alpha")) == {b"unwrapped:1": b"1"}
        assert client.sismember(accounting.TENANTS_KEY, "alpha")


def test_without_redis_keys_still_open(world: World, settings, free_port) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    sealed = seal("alpha", b"x", purpose="p")
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"x"


# --- the command line ---


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setattr(commands, "_django", lambda: None)

    def invoke(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(commands.command, arguments)
        return result.exit_code, result.output

    return invoke


def test_the_commands(world: World, run, settings, tmp_path: Path, monkeypatch) -> None:
    submitted = []
    monkeypatch.setattr("celery_workers.app.submit", lambda *message: submitted.append(message))
    seal("alpha", b"", purpose="p")
    code, output = run("status", "--json")
    shown = json.loads(output)
    assert code == 0
    assert shown["faults"] == {}
    assert [(key["tenant"], key["active"]) for key in shown["tenants"]] == [("alpha", 1)]
    code, output = run("rotate-data", "alpha")
    assert (code, output) == (0, "alpha seals by version 2 now\n")
    assert submitted == [("celery_workers.privacy.reseal", "default", {"tenant": "alpha"})]
    assert run("rotate-data", "nobody")[0] == 1
    file = tmp_path / "master"
    assert run("new-master", str(file))[0] == 0
    assert run("new-master", str(file))[0] == 1
    settings.MASTER_KEYS_PREVIOUS, settings.MASTER_KEY = [settings.MASTER_KEY], f"file:{file}"
    assert run("rotate-master") == (0, "2 data keys are wrapped anew\n")
    master = json.loads(run("status", "--json")[1])["master_key"]
    assert run("rotate-master") == (0, f"every data key is under {master} already\n")
    settings.MASTER_KEYS_PREVIOUS = []
    assert run("status")[0] == 0
    settings.MASTER_KEY = new_master()
    code, output = run("status")
    assert code == 1
    assert "alpha v1: A data key is wrapped by the master key" in output


def test_production_refuses_to_start_without_its_master_key(tmp_path: Path) -> None:
    environment = {
        **os.environ, "AVB_ENVIRONMENT": "production", "AVB_SECRET_KEY": "x" * 50, "AVB_ALLOWED_HOSTS": "voice.example",
        "AVB_MASTER_KEY": f"file:{tmp_path / 'none'}",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", "import celery_workers.default"],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert "There is no master key file" in result.stderr.strip().splitlines()[-1]


def test_up_makes_a_master_key_on_its_first_start_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment() -> dict[str, str]:
        return processes.make_environment(tmp_path / "state", database_url="d", redis_url="r", llm={})

    monkeypatch.delenv("AVB_MASTER_KEY")
    file = tmp_path / "state" / "master_key"
    assert environment()["AVB_MASTER_KEY"] == f"file:{file}"
    made = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    environment()
    assert file.read_text() == made
    monkeypatch.setenv("AVB_MASTER_KEY", "file:/chosen")
    assert environment()["AVB_MASTER_KEY"] == "file:/chosen"
    monkeypatch.delenv("AVB_MASTER_KEY")
    monkeypatch.setenv("AVB_ENVIRONMENT", "production")
    assert "AVB_MASTER_KEY" not in environment(), "nobody chose it: the settings say that it is missing"


def test_schema_context_is_left_as_it_was(world: World) -> None:
    with schema_context("alpha"):
        seal("alpha", b"", purpose="p")
        operations.rotate_data_key(tenant="alpha")
        assert connection.schema_name == "alpha"
