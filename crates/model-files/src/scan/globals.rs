//! What is known of a global that a pickle names. Allow-list first: what is on
//! no list is unknown.

use super::Verdict;

/// How a global is judged, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grade {
    pub verdict: Verdict,
    pub reason: &'static str,
    pub why: &'static str,
}

const CLEAN: Grade = Grade { verdict: Verdict::Clean, reason: "", why: "" };
pub const UNKNOWN: Grade = Grade {
    verdict: Verdict::Unknown,
    reason: "UNKNOWN_GLOBAL",
    why: "is called or made when the file is loaded, and nobody here vouches for it",
};
const CARRIES_CODE: Grade = Grade {
    verdict: Verdict::Suspicious,
    reason: "CARRIES_CODE",
    why: "makes functions from code that the file itself carries",
};
const NESTED_LOAD: Grade = Grade {
    verdict: Verdict::Suspicious,
    reason: "NESTED_LOAD",
    why: "loads another pickle from the bytes that it is given",
};
const INDIRECT: Grade = Grade {
    verdict: Verdict::Suspicious,
    reason: "INDIRECT_CALL",
    why: "calls or reaches for something that can't be told from here",
};
const DANGEROUS: Grade = Grade {
    verdict: Verdict::Dangerous,
    reason: "DANGEROUS_GLOBAL",
    why: "runs commands or code, or reaches for files or the network, when the file is loaded",
};

/// Whether a list has a word.
fn has(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// Whether a path is one of a list, or below one.
fn below(list: &str, path: &str) -> bool {
    list.split_whitespace().any(|root| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Judges `module.name`.
#[must_use]
pub fn grade(module: &str, name: &str) -> Grade {
    if dangerous(module, name) {
        return DANGEROUS;
    }
    if let Some(grade) = doubtful(module, name) {
        return grade;
    }
    if data(module, name) || library(module, name) { CLEAN } else { UNKNOWN }
}

/// Packages of which nothing belongs in a file of data.
const DANGEROUS_ROOTS: &str = "
    os posix posixpath nt ntpath subprocess _posixsubprocess sys shutil commands popen2 importlib
    imp pkgutil zipimport runpy code codeop pty tty socket _socket socketserver ssl ctypes _ctypes
    cffi multiprocessing threading _thread thread concurrent asyncio signal webbrowser antigravity
    urllib urllib2 http httplib requests httpx aiohttp ftplib smtplib telnetlib poplib imaplib
    nntplib xmlrpc pip ensurepip venv setuptools distutils pdb bdb profile cProfile timeit trace
    doctest unittest marshal pickle _pickle cPickle shelve dbm sqlite3 tempfile glob fileinput
    linecache inspect gc atexit traceback sysconfig pydoc lib2to3 ast builtins __builtin__ types
    io _io codecs pathlib2 mmap fcntl readline rlcompleter IPython ptvsd debugpy paramiko fabric
    boto3 pexpect plumbum nose pytest _pytest numexpr torch._C torch.hub torch.jit
    torch.serialization torch.load torch.utils.cpp_extension torch.utils.bottleneck
    torch.utils.collect_env torch.utils.model_zoo torch.distributed torch.multiprocessing
    torch.package torch._inductor torch._dynamo torch.fx numpy.testing numpy.f2py numpy.distutils
    numpy.ctypeslib numpy.lib._npyio_impl numpy.lib.npyio numpy.lib._datasource numpy.core.tests
    scipy.weave pandas.io sklearn.externals sklearn.datasets
    tensorflow.python.framework.load_library tensorflow.python.platform
    tensorflow.python.ops.script_ops mlflow.projects mlflow.utils.process
";

/// Of roots above, what is data all the same.
const EXCEPTIONS: &str = "
    builtins.set builtins.frozenset builtins.list builtins.dict builtins.tuple builtins.int
    builtins.float builtins.complex builtins.bool builtins.str builtins.bytes builtins.bytearray
    builtins.slice builtins.range builtins.object builtins.Ellipsis builtins.NotImplemented
    builtins.type __builtin__.set __builtin__.frozenset __builtin__.list __builtin__.dict
    __builtin__.tuple __builtin__.int __builtin__.long __builtin__.float __builtin__.complex
    __builtin__.bool __builtin__.str __builtin__.unicode __builtin__.bytes __builtin__.bytearray
    __builtin__.slice __builtin__.xrange __builtin__.object types.SimpleNamespace types.NoneType
    io.BytesIO _io.BytesIO io.StringIO _io.StringIO torch.jit._pickle.build_intlist
    torch.jit._pickle.build_doublelist torch.jit._pickle.build_boollist
    torch.jit._pickle.build_tensorlist torch.jit._pickle.restore_type_tag
    torch.serialization._get_layout
";

/// Names that run something, wherever they come from.
const DANGEROUS_NAMES: &str = "
    eval exec execfile compile __import__ import_module system popen Popen check_output check_call
    run call spawn open getattr setattr delattr globals locals __getattribute__ __subclasses__
    __globals__ __builtins__ __code__ __reduce__ __reduce_ex__ load_module exec_module runcode
    runsource urlopen urlretrieve load_library loads load unpickle methodcaller attrgetter apply
    rmtree unlink remove runstring load_from_bytes memmap fromfile genfromtxt loadtxt save savetxt
    DataSource
";

fn dangerous(module: &str, name: &str) -> bool {
    let full = format!("{module}.{name}");
    if has(EXCEPTIONS, &full) {
        return false;
    }
    if below(DANGEROUS_ROOTS, &full) {
        return true;
    }
    // A name may lead on, through modules that a harmless one imported.
    let mut words = name.split('.');
    let last = words.next_back().unwrap_or_default();
    has(DANGEROUS_NAMES, last) || words.any(|word| has(DANGEROUS_ROOTS, word))
}

/// What may be right, but can't be told from here.
fn doubtful(module: &str, name: &str) -> Option<Grade> {
    let root = module.split('.').next().unwrap_or_default();
    match (root, name) {
        ("cloudpickle" | "dill", _) => Some(CARRIES_CODE),
        ("torch", "_load_from_bytes") => Some(NESTED_LOAD),
        ("joblib", "NDArrayWrapper" | "ZNDArrayWrapper") => Some(NESTED_LOAD),
        ("functools" | "operator" | "_operator" | "itertools", _) => Some(INDIRECT),
        ("builtins", "type") => Some(INDIRECT),
        _ => None,
    }
}

/// Globals that are data, one by one.
const DATA: &str = "
    collections.OrderedDict collections.defaultdict collections.deque collections.Counter
    copyreg._reconstructor copy_reg._reconstructor copyreg.__newobj__ _codecs.encode
    types.SimpleNamespace types.NoneType datetime.datetime datetime.date datetime.time
    datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction uuid.UUID
    pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.Path
    pathlib._local.PosixPath random.Random array.array re._compile array._array_reconstructor
    numpy.ndarray numpy.dtype numpy.matrix numpy.recarray numpy.core.multiarray._reconstruct
    numpy._core.multiarray._reconstruct numpy.core.multiarray.scalar numpy._core.multiarray.scalar
    numpy.core.numeric._frombuffer numpy._core.numeric._frombuffer
    numpy.core.multiarray._frombuffer numpy.ma.core._mareconstruct numpy.ma.core.MaskedArray
    numpy.ma.MaskedArray numpy.random._pickle.__randomstate_ctor
    numpy.random._pickle.__generator_ctor numpy.random._pickle.__bit_generator_ctor
    numpy.random._mt19937.MT19937 numpy.random._pcg64.PCG64 numpy.random._pcg64.PCG64DXSM
    numpy.random._philox.Philox numpy.random._sfc64.SFC64
    numpy.random.bit_generator.__pyx_unpickle_SeedSequence numpy.random.bit_generator.SeedSequence
    numpy.core.records.recarray joblib.numpy_pickle.NumpyArrayWrapper torch.Size torch.Tensor
    torch.device torch.dtype torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2
    torch._utils._rebuild_tensor_v3 torch._utils._rebuild_parameter
    torch._utils._rebuild_parameter_with_state torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_sparse_csr_tensor torch._utils._rebuild_nested_tensor
    torch._utils._rebuild_qtensor torch._utils._rebuild_meta_tensor_no_storage
    torch._utils._rebuild_device_tensor_from_numpy
    torch._utils._rebuild_device_tensor_from_cpu_tensor torch._utils._rebuild_wrapper_subclass
    torch._tensor._rebuild_from_type_v2 torch._tensor.Tensor torch.nn.parameter.Parameter
    torch.nn.parameter.Buffer torch.serialization._get_layout torch.storage.TypedStorage
    torch.storage.UntypedStorage pandas._libs.internals._unpickle_block
    pandas.core.indexes.base._new_Index pandas._libs.arrays.__pyx_unpickle_NDArrayBacked
    pandas._libs.tslibs.timestamps._unpickle_timestamp pandas.DataFrame pandas.Series pandas.Index
    pandas.MultiIndex pandas.RangeIndex pandas.DatetimeIndex pandas.CategoricalIndex
    pandas.StringDtype pandas.CategoricalDtype pandas.Categorical pandas.Timestamp
    pandas.Timedelta pandas.Int64Dtype pandas.Float64Dtype pandas.BooleanDtype
    sklearn.feature_selection._univariate_selection.f_classif
    sklearn.feature_selection._univariate_selection.f_regression
    sklearn.feature_selection._univariate_selection.chi2
    sklearn.feature_selection._mutual_info.mutual_info_classif
    sklearn.feature_selection._mutual_info.mutual_info_regression
    sklearn.compose._column_transformer.make_column_selector
    sklearn.cluster._kmeans._kmeans_single_lloyd
    sklearn.metrics._classification.balanced_accuracy_score numpy.mean numpy.exp numpy.log
    numpy.log1p numpy.sqrt pandas.DatetimeTZDtype pandas.PeriodDtype pandas.IntervalDtype
    pandas.ArrowDtype pandas.NA pandas._libs.interval.__pyx_unpickle_IntervalMixin
    pyarrow.lib._restore_array pyarrow.lib.py_buffer pyarrow.lib.type_for_alias
";

/// Scalars of numpy and torch: types, nothing that is called.
const NUMPY_SCALARS: &str = "
    bool bool_ int8 int16 int32 int64 intc intp uint8 uint16 uint32 uint64 float16 float32 float64
    float128 longdouble complex64 complex128 str_ bytes_ object_ datetime64 timedelta64 void
";
const TORCH_TYPES: &str = "
    float32 float float64 double float16 half bfloat16 uint8 int8 int16 short int32 int int64 long
    bool complex64 complex128 cfloat cdouble quint8 qint8 qint32 float8_e4m3fn float8_e5m2 uint16
    uint32 uint64 strided sparse_coo contiguous_format preserve_format channels_last
";

/// Sparse matrices, whose classes are written small.
const SPARSE: &str = "
    csr_matrix csc_matrix coo_matrix lil_matrix dok_matrix dia_matrix bsr_matrix csr_array
    csc_array coo_array lil_array dok_array dia_array bsr_array
";

fn data(module: &str, name: &str) -> bool {
    let full = format!("{module}.{name}");
    if has(DATA, &full) || has(EXCEPTIONS, &full) {
        return true;
    }
    match module {
        "numpy" => has(NUMPY_SCALARS, name),
        "numpy.dtypes" => class_name(name),
        _ if module.starts_with("scipy.sparse.") => has(SPARSE, name),
        // What TorchScript compiled: types of its own machine, no module of Python's.
        _ if module.starts_with("__torch__.") => class_name(name),
        "torch" | "torch.cuda" => {
            has(TORCH_TYPES, name) || (name.ends_with("Storage") && class_name(name))
        }
        // Cython's own ways to an empty object: `newObj`, `__pyx_unpickle_` and a class.
        _ if module.starts_with("sklearn.") && name == "newObj" => true,
        "sklearn._loss._loss" => name.strip_prefix("__pyx_unpickle_").is_some_and(class_name),
        _ => false,
    }
}

/// Libraries whose classes are data with methods: made, filled, and run only
/// when somebody asks.
const LIBRARIES: &str = "
    sklearn scipy.sparse scipy.stats scipy.interpolate scipy.spatial pandas.core pandas.arrays
    pandas._libs xgboost lightgbm catboost statsmodels torch.nn.modules torch.optim imblearn
    category_encoders skops hdbscan umap prophet sentence_transformers.models
    sentence_transformers.SentenceTransformer tokenizers transformers.models
    transformers.training_args transformers.configuration_utils
    transformers.tokenization_utils_base torchvision.models timm.models timm.layers ultralytics.nn
";
/// Parts of libraries that do more than hold data.
const LIBRARY_EXCEPT: &str = "
    testing _testing tests conftest externals datasets cpp_extension io computation callback
    sandbox federated
";
/// Classes that libraries took from elsewhere, which start or open something.
const FOREIGN: &str = "
    Client Listener Connection Thread Pool ThreadPoolExecutor ProcessPoolExecutor
    NamedTemporaryFile MethodType Memory
";

fn library(module: &str, name: &str) -> bool {
    let known = below(LIBRARIES, module);
    let plain = !module.split('.').any(|word| has(LIBRARY_EXCEPT, word));
    // Formulas and templates of a state are run as code when it is given back.
    let runs = module == "statsmodels.base.data" || name.ends_with("_gen");
    known && plain && !runs && !has(FOREIGN, name) && class_name(name)
}

/// A class by its name: `Tree`, `_BinMapper`; never a function, never a way
/// through a module.
fn class_name(name: &str) -> bool {
    let bare = name.trim_start_matches('_');
    bare.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(module: &str, name: &str) -> Verdict {
        grade(module, name).verdict
    }

    #[test]
    fn what_models_are_made_of_is_clean() {
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("numpy", "ndarray"),
            ("numpy", "float64"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("torch", "FloatStorage"),
            ("torch.serialization", "_get_layout"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("sklearn.linear_model._logistic", "LogisticRegression"),
            ("sklearn._loss._loss", "__pyx_unpickle_CyHalfBinomialLoss"),
            ("builtins", "set"),
            ("__builtin__", "object"),
            ("scipy.sparse._csr", "csr_matrix"),
        ] {
            assert_eq!(verdict(module, name), Verdict::Clean, "{module}.{name}");
        }
    }

    #[test]
    fn what_runs_code_is_dangerous_whatever_way_it_is_named() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("builtins", "getattr"),
            ("importlib", "import_module"),
            ("numpy.testing._private.utils", "runstring"),
            ("torch.hub", "load"),
            ("torch.serialization", "os.system"),
            ("sklearn.utils", "Bunch.os.system"),
            ("sklearn.utils.fixes", "sys.modules"),
            ("collections", "OrderedDict.__globals__"),
            ("operator", "methodcaller"),
            ("pickle", "loads"),
            ("joblib", "load"),
            ("functools", "reduce.__builtins__"),
            ("numpy", "load"),
            ("numpy.lib.npyio", "DataSource"),
        ] {
            assert_eq!(verdict(module, name), Verdict::Dangerous, "{module}.{name}");
        }
    }

    #[test]
    fn what_nobody_knows_is_never_clean() {
        for (module, name) in [
            ("mycompany.models", "Ranker"),
            ("sklearn.utils._testing", "TempMemmap"),
            ("sklearn.utils", "all_estimators"),
            ("torch.nn.modules.linear", "Linear.forward"),
            ("sklearnx", "Ridge"),
            ("numpy", "vectorize"),
            ("sklearn.callback._transport", "Client"),
            ("lightgbm.basic", "NamedTemporaryFile"),
            ("statsmodels.base.data", "PandasData"),
            ("statsmodels.sandbox.distributions.extras", "SkewNorm2_gen"),
            ("", ""),
        ] {
            assert_eq!(verdict(module, name), Verdict::Unknown, "{module}.{name}");
        }
        assert_eq!(verdict("cloudpickle.cloudpickle", "_make_function"), Verdict::Suspicious);
        assert_eq!(verdict("functools", "partial"), Verdict::Suspicious);
        assert_eq!(verdict("torch.storage", "_load_from_bytes"), Verdict::Suspicious);
    }
}
