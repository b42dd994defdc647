"""Models before they are loaded: what scikit-learn, joblib, numpy and pickle write, what OpenSSF's tool signs."""

import collections
import datetime
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import joblib
import mlflow
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from model_signing import signing, verifying
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CLEAN, DANGEROUS, UNREADABLE = (f"SCAN_VERDICT_{word}" for word in ("CLEAN", "DANGEROUS", "UNREADABLE"))


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo ran > /dev/null",)


class Own:
    """A class of one's own: pickled by its name in this file."""


def fitted():
    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = (rows[:, 0] > 0).astype(int)
    return [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels),
        RandomForestClassifier(5, random_state=0).fit(rows, labels),
        HistGradientBoostingClassifier(max_iter=5).fit(rows, labels),
    ]


def torch_like(path, state, compression=zipfile.ZIP_STORED):
    """The layout of `torch.save`: a pickle and the raw tensors in a zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", pickle.dumps(state, protocol=2))
        archive.writestr("model/byteorder", "little")
        archive.writestr("model/data/0", np.ones(1000, "f4").tobytes())
        archive.writestr("model/version", "3\n")


def scanned(server, namespace, folder):
    server.json("models", "register", f"{namespace}/net", folder)
    answer = server.json("models", "scan", f"{namespace}/net")
    known = server.json("models", "scan", f"{namespace}/net", "--known")
    assert known["verdict"] == answer["verdict"], (known, answer)
    return answer["verdict"], {file["path"]: file for file in known["files"]}


def test_what_libraries_write_is_clean(server, namespace, tmp_path):
    server.cli("namespaces", "create", namespace)
    folder = tmp_path / "model"
    folder.mkdir()
    for number, model in enumerate(fitted()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            (folder / f"{number}.{protocol}.pkl").write_bytes(pickle.dumps(model, protocol))
        joblib.dump(model, folder / f"{number}.joblib")
        joblib.dump(model, folder / f"{number}.packed.joblib", compress=3)
        joblib.dump(model, folder / f"{number}.joblib.gz")
    objects = np.array([1, "x", None], dtype=object)
    joblib.dump({"objects": objects, "text": np.array(["ab", "c"]), "f": np.zeros((3, 4), order="F")}, folder / "mixed.joblib")
    np.savez(folder / "arrays.npz", a=np.arange(10.0), b=objects)
    np.savez_compressed(folder / "packed.npz", a=np.zeros(100_000))
    torch_like(folder / "model.pt", collections.OrderedDict(weight=[1.0, 2.0]))
    (folder / "notes.md").write_text("Import nothing.\n")
    verdict, files = scanned(server, namespace, folder)
    worse = {path: file["findings"] for path, file in files.items() if file["verdict"] != CLEAN}
    assert verdict == CLEAN and not worse, worse
    assert len(files) == 3 * 9 + 5
    formats = {path: file["format"] for path, file in files.items()}
    assert (formats["0.4.pkl"], formats["model.pt"], formats["arrays.npz"]) == ("pickle", "torch", "numpy")


def test_what_runs_a_command_is_found_wherever_it_hides(server, namespace, tmp_path):
    server.cli("namespaces", "create", namespace)
    folder = tmp_path / "model"
    folder.mkdir()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps({"weights": [1.0], "x": Command()}, protocol))
    (folder / "nameless").write_bytes(pickle.dumps(Command()))
    torch_like(folder / "stored.pt", {"x": Command()})
    torch_like(folder / "packed.bin", {"x": Command()}, zipfile.ZIP_DEFLATED)
    joblib.dump({"a": np.arange(5.0), "x": Command()}, folder / "model.joblib")
    joblib.dump([np.array([Command()], dtype=object)], folder / "inside.joblib")
    joblib.dump({"x": Command()}, folder / "packed.joblib", compress=("zlib", 3))
    np.save(folder / "array.npy", np.array([Command()], dtype=object), allow_pickle=True)
    np.savez_compressed(folder / "array.npz", a=np.array([Command()], dtype=object))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("deep.pkl", pickle.dumps(Command()))
    with zipfile.ZipFile(folder / "outer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.zip", inner.getvalue())
    verdict, files = scanned(server, namespace, folder)
    missed = [path for path, file in files.items() if file["verdict"] != DANGEROUS]
    assert verdict == DANGEROUS and not missed, missed
    assert len(files) == 6 + 9
    finding = files["outer.zip"]["findings"][0]
    assert (finding["member"], finding["global"]) == ("inner.zip!deep.pkl", "posix.system")


def test_a_bomb_and_a_class_of_ones_own(server, namespace, tmp_path):
    server.cli("namespaces", "create", namespace)
    folder = tmp_path / "model"
    folder.mkdir()
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("model/data.pkl", "w", force_zip64=True) as member:
            member.write(b"\x80\x04")
            for _ in range(300):
                member.write(b"N" * (1 << 20))
    assert (folder / "bomb.pt").stat().st_size < 1 << 20
    (folder / "own.pkl").write_bytes(pickle.dumps(Own()))
    (folder / "cut.pkl").write_bytes(pickle.dumps(list(range(1000)))[:-7])
    verdict, files = scanned(server, namespace, folder)
    assert verdict == UNREADABLE
    assert files["bomb.pt"]["findings"][0]["reason"] in ("ZIP_BOMB", "TOO_LARGE"), files["bomb.pt"]
    assert files["own.pkl"]["verdict"] == "SCAN_VERDICT_UNKNOWN"
    assert files["cut.pkl"]["findings"][0]["reason"] == "TRUNCATED"


def test_a_model_that_mlflow_logged_is_scanned(ground, namespace, monkeypatch):
    ground.cli("namespaces", "create", namespace)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ground.token)
    monkeypatch.setenv("MLFLOW_WORKSPACE", namespace)
    mlflow.set_tracking_uri(ground.url)
    mlflow.set_registry_uri(ground.url)
    mlflow.set_experiment("trusted")
    model = LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", registered_model_name="net", serialization_format="cloudpickle")
    answer = ground.json("models", "scan", f"{namespace}/net")
    assert answer["verdict"] == CLEAN, answer
    assert ground.json("models", "show", f"{namespace}/net")["model"]["name"] == "net"


def key(folder, name, curve):
    made = ec.generate_private_key(curve)
    text = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(text)
    public = made.public_key()
    (folder / f"{name}.pub").write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return made


def certificate(folder, name, issuer, public, signer, authority):
    def called(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(called(name)).issuer_name(called(issuer)).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False), critical=True
        )
    )
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    path = folder / f"{name}.pem"
    path.write_bytes(made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data/weights.bin").write_bytes(os.urandom(100_000))
    (folder / "data.json").write_text("{}")
    return folder


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_a_signature_by_key_holds_for_its_files_only(ground, namespace, model, tmp_path, curve):
    ground.cli("namespaces", "create", namespace)
    key(tmp_path, "signer", curve)
    bundle = tmp_path / "model.sig"
    signing.Config().use_elliptic_key_signer(private_key=tmp_path / "signer.key").sign(model, bundle)
    ground.json("models", "register", f"{namespace}/net", model)
    ground.json("models", "signing-keys", "add", namespace, tmp_path / "signer.pub", "--name", "release")
    added = ground.json("models", "signature", "add", f"{namespace}/net@1", bundle)["signature"]
    assert added["verified"] and added["key_fingerprint"], added
    down = tmp_path / "down"
    ground.cli("models", "download", f"{namespace}/net@1", down)
    verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "signer.pub").verify(down, bundle)

    weights = bytearray((model / "data/weights.bin").read_bytes())
    weights[5_000] ^= 1
    (model / "data/weights.bin").write_bytes(weights)
    ground.json("models", "register", f"{namespace}/net", model)
    refused = ground.cli("models", "signature", "add", f"{namespace}/net@2", bundle, "-o", "json", check=False)
    assert refused.returncode == 5 and "data/weights.bin" in refused.stderr, refused
    assert ground.json("models", "signature", "list", f"{namespace}/net@2")["signatures"] == []
    damaged = json.loads(bundle.read_text())
    damaged["dsseEnvelope"]["payload"] = damaged["dsseEnvelope"]["payload"][:-8] + "AAAAAAA="
    bundle.write_text(json.dumps(damaged))
    refused = ground.cli("models", "signature", "add", f"{namespace}/net@1", bundle, check=False)
    assert refused.returncode in (5, 7), refused


def test_a_signature_by_certificate_leads_to_a_root(server, namespace, model, tmp_path):
    server.cli("namespaces", "create", namespace)
    root, inter, signer = (key(tmp_path, name, ec.SECP256R1()) for name in ("root", "inter", "signer"))
    root_path = certificate(tmp_path, "root", "root", root.public_key(), root, True)
    inter_path = certificate(tmp_path, "inter", "root", inter.public_key(), root, True)
    signer_path = certificate(tmp_path, "signer", "inter", signer.public_key(), inter, False)
    signing.Config().use_certificate_signer(
        private_key=tmp_path / "signer.key", signing_certificate=signer_path, certificate_chain=[inter_path]
    ).sign(model, tmp_path / "model.sig")
    server.json("models", "register", f"{namespace}/net", model)
    added = server.json("models", "signature", "add", f"{namespace}/net", tmp_path / "model.sig")["signature"]
    assert not added["verified"], "nobody trusts the root yet"
    server.json("models", "signing-keys", "add", namespace, root_path)
    verified = server.json("models", "signature", "verify", f"{namespace}/net")["signatures"][0]
    assert verified["verified"] and verified["message"].startswith("signer (sha256:"), verified


def test_a_signature_inside_the_model_is_read_from_there(server, namespace, model, tmp_path):
    server.cli("namespaces", "create", namespace)
    key(tmp_path, "signer", ec.SECP256R1())
    tool, inside = [sys.executable, "-m", "model_signing"], model / "model.sig"
    subprocess.run([*tool, "sign", "key", model, "--signature", inside, "--private_key", tmp_path / "signer.key"], check=True)
    server.json("models", "register", f"{namespace}/net", model)
    server.json("models", "signing-keys", "add", namespace, tmp_path / "signer.pub")
    added = server.json("models", "signature", "add", f"{namespace}/net", "--file", "model.sig")["signature"]
    assert added["verified"], added
    # What nobody signed may not lie beside it.
    (model / "extra.pkl").write_bytes(b"N.")
    server.json("models", "register", f"{namespace}/net", model)
    refused = server.cli("models", "signature", "add", f"{namespace}/net", "--file", "model.sig", check=False)
    assert refused.returncode == 5 and "extra.pkl" in refused.stderr, refused
