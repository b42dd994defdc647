"""Model files that run something when they are loaded, each by a way that a scanner has missed, and files that
run nothing. The hostile ones are written opcode by opcode: nothing of them is imported or run here."""

import bz2
import collections
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import joblib
import numpy as np
import safetensors.numpy
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# What runs a command or code, or reaches out: the plain ones and those that lists of forbidden names have missed.
TARGETS = """
    os.system posix.system nt.system os.popen os.execv os.spawnlp os.remove subprocess.Popen subprocess.check_output
    subprocess.getoutput builtins.eval builtins.exec builtins.compile builtins.getattr builtins.__import__
    builtins.open __builtin__.eval importlib.import_module importlib.machinery.SourceFileLoader runpy.run_path
    runpy._run_code pty.spawn socket.create_connection shutil.rmtree webbrowser.open ctypes.CDLL pip.main
    pip._internal.main ensurepip._run_pip venv.create bdb.Bdb.run pdb.run pdb.Pdb.run profile.run cProfile.run
    cProfile.runctx profile.Profile.run trace.Trace.run trace.Trace.runctx timeit.timeit timeit.repeat
    doctest.debug_script code.InteractiveInterpreter.runcode codeop._maybe_compile asyncio.create_subprocess_shell
    asyncio.unix_events._UnixSubprocessTransport._start multiprocessing.util.spawnv_passfds
    _posixsubprocess.fork_exec _osx_support._read_output _osx_support._find_build_tool
    _aix_support._read_cmd_output _pyrepl.pager.pipe_pager pydoc.pipepager pydoc.locate pydoc.tempfilepager
    idlelib.pyshell.ModifiedInterpreter.runcommand idlelib.pyshell.ModifiedInterpreter.runcode
    idlelib.autocomplete.AutoComplete.get_entity idlelib.autocomplete.AutoComplete.fetch_completions
    idlelib.calltip.get_entity idlelib.calltip.Calltip.fetch_tip idlelib.debugobj.ObjectTreeItem.SetText
    idlelib.run.Executive.runcode lib2to3.pgen2.grammar.Grammar.loadgrammar
    lib2to3.pgen2.pgen.ParserGenerator.make_label logging.config.listen logging.config._resolve
    distutils.file_util.write_file distutils.spawn.spawn test.support.script_helper.assert_python_ok
    uuid._get_command_stdout imaplib.IMAP4_stream telnetlib.Telnet smtplib.SMTP ftplib.FTP urllib.request.urlopen
    urllib.request.urlretrieve http.client.HTTPSConnection requests.get requests.api.get aiohttp.ClientSession
    httpx.get pickle.loads _pickle.loads pickle.Unpickler marshal.loads types.FunctionType types.CodeType
    cloudpickle.loads dill.loads joblib.load pandas.read_pickle numpy.load numpy.fromfile sqlite3.connect
    operator.methodcaller operator.attrgetter functools.partial _operator.attrgetter functools.reduce
    numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran._eval_length numpy.testing._private.utils.runstring
    numpy.testing.tests.test_utils.runstring torch.load torch.hub.load torch.jit.load torch.serialization.load
    torch._inductor.codecache.compile_file torch._dynamo.guards.GuardBuilder.get
    torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
    torch.utils.bottleneck.__main__.run_cprofile torch.utils.bottleneck.__main__.run_autograd_prof
    torch.utils.collect_env.run torch.utils._config_module.ConfigModule.load_config
    torch.utils.data.datapipes.utils.decoder.basichandlers torch.storage._load_from_bytes
    torch.package.PackageImporter pkgutil.resolve_name zipimport.zipimporter site.addsitedir linecache.getlines
    tempfile.mkstemp fileinput.input glob.glob signal.signal sys.settrace threading.Thread _thread.start_new_thread
    concurrent.futures.ProcessPoolExecutor xmlrpc.client.ServerProxy nltk.download mlflow.projects.run
    sklearn.datasets.fetch_openml pandas.eval pandas.core.computation.eval.eval numexpr.evaluate
    tensorflow.io.read_file keras.models.load_model transformers.pipeline paddle.load some_package.hooks.run
""".split()


def text(value):
    """A string as an opcode of protocol 1."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(value):
    """A string as an opcode of protocol 4."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(target):
    """GLOBAL: protocol 4 reads a dotted name as a way through attributes."""
    parts = target.split(".")
    classes = [at for at, part in enumerate(parts[:-1]) if part[:1].isupper()]
    cut = classes[0] if classes else len(parts) - 1
    return ".".join(parts[:cut]), ".".join(parts[cut:])


def called(target, argument="echo ran > /dev/null"):
    module, name = named(target)
    return f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"


RUN = called("os.system")


def forms():
    """One call, written in each way that the format has."""
    yield "reduce.pkl", b"\x80\x02" + RUN + b"."
    yield "protocol0.pkl", b"cposix\nsystem\n(S'echo ran'\ntR."
    yield "inst.pkl", b"(S'echo ran'\nios\nsystem\n."
    yield "obj.pkl", b"(cos\nsystem\nS'echo ran'\no."
    yield "newobj.pkl", b"\x80\x02csubprocess\nPopen\n" + text("id") + b"\x85\x81."
    yield "newobj_ex.pkl", b"\x80\x04csubprocess\nPopen\n" + short("id") + b"\x85}\x92."
    yield "stack_global.pkl", b"\x80\x04" + short("os") + short("system") + b"\x93" + short("id") + b"\x85R."
    memo = b"\x80\x04" + short("system") + b"\x940" + short("os") + b"\x940" + b"h\x01h\x00\x93" + short("id") + b"\x85R."
    yield "stack_global_memo.pkl", memo
    put = b"\x80\x02" + text("os") + b"q\x07" + text("system") + b"r\x00\x01\x00\x0000" + b"h\x07j\x00\x01\x00\x00\x93" + text("id") + b"\x85R."
    yield "stack_global_put.pkl", put
    yield "stack_global_dup.pkl", b"\x80\x04" + short("eval") + short("builtins") + b"200" + short("builtins") + short("eval") + b"\x93" + short("1") + b"\x85R."
    yield "stack_global_string.pkl", b"\x80\x04S'os'\nS'system'\n\x93S'id'\n\x85R."
    yield "stack_global_unicode.pkl", b"\x80\x04Vo\\u0073\nVsystem\n\x93Vid\n\x85R."
    yield "memo_overwritten.pkl", b"\x80\x02" + text("collections") + b"q\x000" + text("os") + b"q\x000" + b"h\x00" + text("system") + b"\x93" + text("id") + b"\x85R."
    yield "dotted.pkl", b"\x80\x04ccollections\n_sys.modules\n."
    yield "dotted_stack.pkl", b"\x80\x04" + short("collections") + short("_sys.exit") + b"\x93)R."
    yield "dotted_library.pkl", b"\x80\x04" + short("numpy") + short("f2py.os.system") + b"\x93" + short("id") + b"\x85R."
    yield "builtins2.pkl", b"c__builtin__\neval\n(S'1+1'\ntR."
    yield "getattr_chain.pkl", b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n" + text("os") + b"\x85R" + text("system") + b"\x86R" + text("id") + b"\x85R."
    yield "build.pkl", b"\x80\x02ccollections\nOrderedDict\n)R}" + text("x") + RUN + b"sb."
    yield "dict_item.pkl", b"\x80\x02}" + text("weights") + RUN + b"s."
    yield "list_append.pkl", b"\x80\x02]" + RUN + b"a."
    yield "persistent.pkl", b"\x80\x02" + RUN + b"Q."
    yield "popped.pkl", b"\x80\x02" + RUN + b"0N."
    yield "popped_mark.pkl", b"\x80\x02(" + RUN + b"1N."
    yield "framed.pkl", b"\x80\x04\x95" + struct.pack("<Q", len(RUN) + 1) + RUN + b"."
    yield "short_frame.pkl", b"\x80\x04\x95" + struct.pack("<Q", 3) + RUN + b"."
    yield "no_stop.pkl", b"\x80\x02" + RUN
    yield "broken_after.pkl", b"\x80\x02" + RUN + b"\xff\xff\xff"
    yield "underflow_after.pkl", b"\x80\x02" + RUN + b"0000."
    yield "proto_again.pkl", b"\x80\x02\x80\x04" + RUN + b"\x80\x02."
    yield "proto_unknown.pkl", b"\x80\x2a" + RUN + b"."
    yield "second_pickle.pkl", pickle.dumps({"weights": [1.0]}) + b"\x80\x02" + RUN + b"."
    yield "extension.pkl", b"\x80\x02\x82\x01)R."
    yield "many_before.pkl", b"\x80\x02(" + b"K\x01" * 200_000 + b"1" + RUN + b"."
    yield "long_name.pkl", b"\x80\x02c" + b"a" * 5_000 + b"\nb\n)R."
    yield "crlf.pkl", b"\x80\x02cos\r\nsystem\r\n" + text("id") + b"\x85R."
    yield "latin.pkl", b"\x80\x02c\xc3\xb6s\nsystem\n)R."


def zipped(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def patched(content, signature, at, value):
    """Every header of a kind with bytes of it changed."""
    raw, begin = bytearray(content), 0
    while (begin := raw.find(signature, begin)) >= 0:
        raw[begin + at:begin + at + len(value)] = value
        begin += 4
    return bytes(raw)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def containers():
    """The same pickle, wrapped and hidden."""
    evil = b"\x80\x02" + RUN + b"."
    torch = [("model/data.pkl", evil), ("model/version", "3\n"), ("model/data/0", b"\0" * 400)]
    plain = zipped(torch)
    yield "torch.pt", plain
    yield "torch_deflated.pth", zipped(torch, zipfile.ZIP_DEFLATED)
    yield "torch_bzip2.pt", zipped(torch, zipfile.ZIP_BZIP2)
    yield "torch_lzma.pt", zipped(torch, zipfile.ZIP_LZMA)
    yield "torch_named.bin", plain
    yield "torch_named.pkl", plain
    yield "torch_nameless", plain
    yield "torch_junk_before.pt", b"#!/bin/sh\n" + plain
    yield "torch_junk_behind.pt", plain + b"\0" * 100
    yield "torch_other_name.pt", zipped([("model/data.txt", evil), ("model/data.pkl", pickle.dumps({}))])
    yield "torch_config_name.pt", zipped([("model/config.p", evil)])
    yield "torch_no_ending.pt", zipped([("model/weights", evil)])
    # Bits and fields that Python's zipfile refuses or believes, and loaders overlook.
    for bit in (0x01, 0x20, 0x40, 0x2000):
        flags = struct.pack("<H", bit)
        yield f"torch_flag_{bit:x}.pt", patched(plain, LOCAL, 6, flags)
        yield f"torch_both_flags_{bit:x}.pt", patched(patched(plain, LOCAL, 6, flags), CENTRAL, 8, flags)
    yield "torch_version.pt", patched(plain, CENTRAL, 6, struct.pack("<H", 999))
    yield "torch_crc.pt", patched(plain, CENTRAL, 16, b"\1\2\3\4")
    yield "torch_renamed.pt", plain.replace(b"model/data.pkl", b"model/data.txt", 1)
    yield "torch_renamed_central.pt", patched_name(plain)
    yield "torch_method.pt", patched(plain, CENTRAL, 10, struct.pack("<H", 99))
    yield "torch_no_end.pt", plain[: plain.rfind(b"PK\x05\x06")]
    inner = zipped([("deep.pkl", evil)])
    yield "nested.zip", zipped([("inner.zip", inner)], zipfile.ZIP_DEFLATED)
    yield "nested_twice.zip", zipped([("a.zip", zipped([("b.zip", inner)]))])
    yield "nested_named.zip", zipped([("weights.dat", inner)])
    yield "in_zip.npz", zipped([("arr.npy", npy(evil))])
    yield "object.npy", npy(evil)
    yield "numpy_named.bin", npy(evil)
    yield "joblib_zlib.joblib", zlib.compress(evil)
    yield "joblib_gzip.joblib", gzip.compress(evil)
    yield "joblib_bz2.joblib", bz2.compress(evil)
    yield "joblib_xz.joblib", lzma.compress(evil)
    yield "joblib_lzma.joblib", lzma.compress(evil, lzma.FORMAT_ALONE)
    yield "packed.pkl.gz", gzip.compress(evil)
    yield "array_inside.joblib", joblib_array(evil)
    yield "legacy.pt", legacy(evil)
    yield "legacy_tar.pt", tar([("sys_info", pickle.dumps({})), ("pickle", evil), ("tensors", b""), ("storages", b"")])
    yield "tarred.tar", tar([("model.pkl", evil)])
    yield "nemo.nemo", tar([("weights.ckpt", plain)])
    for name in ("model.bin", "model.dat", "model.weights", "model.pickle", "model.ckpt", "model.p", "model.dill", "model", "MODEL.PKL"):
        yield f"as_{name}", evil
    lambda_layer = {"class_name": "Lambda", "config": {"function": ["4wEAAAA", None, None]}}
    config = {"class_name": "Sequential", "config": {"layers": [lambda_layer]}}
    yield "lambda.keras", zipped([("config.json", json.dumps(config)), ("metadata.json", "{}"), ("model.weights.h5", b"\x89HDF\r\n\x1a\n")])


def patched_name(content):
    """The directory names another member than stands before the bytes."""
    at = content.find(CENTRAL)
    return content[:at] + content[at:].replace(b"model/data.pkl", b"model/data.txt")


def npy(content):
    """An array of objects, whose bytes are a pickle."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return out.getvalue() + content


def joblib_array(content):
    """A joblib file with an array of objects inside: a pickle within the pickle."""
    out = io.BytesIO()
    joblib.dump(np.array([None], dtype=object), out)
    raw = out.getvalue()
    inner = raw.rfind(b"\x80")
    return raw[:inner] + content + raw[inner:]


def legacy(content):
    """`torch.save` before zips: a magic number, a version, the machine, then the model."""
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [0x1950A86A20F9469CFC6C, 1001, sizes]
    return b"".join(pickle.dumps(part, 2) for part in parts) + content + pickle.dumps([], 2)


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def hostile():
    """(name, bytes) of everything that may run something."""
    for at, target in enumerate(TARGETS):
        yield f"target_{at:03}_{target}.pkl", b"\x80\x04" + called(target) + b"."
    yield from forms()
    yield from containers()


def clean(folder):
    """Writes what libraries write into a folder; answers the names."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = (rows[:, 0] > 0).astype(int)
    models = [
        make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels),
        RandomForestClassifier(5, random_state=0).fit(rows, labels),
        HistGradientBoostingClassifier(max_iter=5).fit(rows, labels),
    ]
    for at, model in enumerate(models):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            (folder / f"clean_{at}.{protocol}.pkl").write_bytes(pickle.dumps(model, protocol))
        joblib.dump(model, folder / f"clean_{at}.joblib")
        joblib.dump(model, folder / f"clean_{at}.packed.joblib", compress=3)
    np.save(folder / "clean.npy", rows)
    np.save(folder / "clean_objects.npy", np.array([1, "x", None], dtype=object))
    np.savez_compressed(folder / "clean.npz", a=rows, b=labels)
    safetensors.numpy.save_file({"weight": rows}, folder / "clean.safetensors")
    state = collections.OrderedDict(weight=[1.0, 2.0])
    (folder / "clean.pt").write_bytes(zipped([("model/data.pkl", pickle.dumps(state, 2)), ("model/version", "3\n")]))
    (folder / "clean_legacy.pt").write_bytes(legacy(pickle.dumps(state, 2)))
    (folder / "clean.json").write_text(json.dumps({"layers": [1, 2]}))
    (folder / "clean.txt").write_text("Import os, then exec nothing.\n")
    (folder / "clean_c.txt").write_text("cosine\nsimilarity\n")
    return sorted(path.name for path in folder.glob("clean*"))
