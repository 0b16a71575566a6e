"""The rules of the house, as tests."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.version import Version

import lottapack
from lottapack import errors

parse = cache(ast.parse)
"""The tree of a source, which several tests walk and none changes."""

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "lottapack": ROOT / "lottapack",
    "lottapack_serve": ROOT / "lottapack_serve",
    "lottapack_cli": ROOT / "cli" / "lottapack_cli",
}
MODULES = {
    ".".join([name, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for name, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}

LAYERS = (
    "errors",
    "extras",
    "version",
    "forking",
    "progress",
    "display",
    "flags",
    "limits",
    "device",
    "files",
    "rng",
    "products",
    "codecs",
    "strict_json",
    "format",
    "arch",
    "weights",
    "nn",
    "building",
    "signing",
    "registry",
    "folders",
    "peft",
    "packing",
    "recover",
    "backbone",
    "reports",
    "integrations",
    "pushing",
    "loading",
    "distributed",
    "inputs",
    "numpy",
    "jax",
    "mlx",
    "lightning",
    "mlflow",
    "comparing",
    "running",
    "onnx",
    "exporting",
    "studying",
    "conformance",
)
"""The packages of lottapack, and the modules beside them, from the ground up: each imports from those before it."""

ABOVE = ("lottapack", "lottapack_serve", "lottapack_cli", "lottapack.__main__")
"""What may import from all of them, and from those before it here."""

BROAD_EXCEPT = {
    "lottapack.onnx.external": "a parser raises anything on a stranger's bytes",
    "lottapack.onnx.graphs": "the exporters of torch and transformers raise anything on a model they cannot trace",
    "lottapack.onnx.sessions": "ONNX Runtime raises anything on a graph that it refuses",
    "lottapack.arch.account": "what the size of a result is asked of may fail as it likes: then it is estimated",
    "lottapack.arch.skeleton": "constructors of other libraries raise anything on a bad configuration",
    "lottapack.arch.watched": "what is raised in one thread is raised again in the one that waits for it",
    "lottapack.loading.background": "as watched, for each task of a load",
    "lottapack.inputs": "torch and safetensors raise many kinds on a bad file of inputs",
    "lottapack.folders.reading": "safetensors and torch raise many kinds on a bad file",
    "lottapack.folders.tokenizer": "transformers and tokenizers raise anything on a stranger's tokenizer",
    "lottapack.mlflow": "MLflow's stores and its parser raise anything on a stranger's model",
    "lottapack.pushing.front_matter": "a YAML parser raises anything on a stranger's text",
    "lottapack.registry.hub_errors": "the client's and our own readers raise anything on a stranger's answer",
    "lottapack.registry.oci_client": "as hub_errors, for OCI registries",
    "lottapack_cli.__main__": "whatever fails after a Ctrl-C that a library dropped is that interruption",
    "lottapack_serve.cards": "the YAML parser lets through whatever its constructors raise on a bad card",
    "lottapack.signing": "the signing library lets through whatever its parsers raise on a bad key or signature",
}
"""Modules that may catch Exception, and why. All others name what they expect."""


def package_of(module: str) -> str:
    """Return the package of a module: the first part of its name below ``lottapack``, or the top."""
    root, *rest = module.split(".")
    return module if module in ABOVE else rest[0] if root == "lottapack" else root


def layer_of(module: str) -> int:
    """Return the layer number of a module's package, from the bottom."""
    return (*LAYERS, *ABOVE).index(package_of(module))


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Return the project's modules that a module imports at run time, not those for types only."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in named if name in MODULES]
            if len(found) < len(named) and node.module in MODULES:
                found.append(node.module)
            yield from found
        pending.extend(ast.iter_child_nodes(node))


def upward(module: str, source: str) -> list[str]:
    """Return the imports of a module that go up."""
    return [name for name in imports(module, parse(source)) if layer_of(name) > layer_of(module)]


def found_in(fault):
    """What a search for faults finds, by module."""
    return {name: found for name, path in MODULES.items() if (found := fault(name, path.read_text("utf-8")))}


def test_imports_go_downwards():
    assert found_in(upward) == {}


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, directly or not."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        pending = [*graph[start]]
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending.extend(graph.get(name, ()))
        reached[start] = seen
    groups = {frozenset(other for other in seen if start in reached.get(other, ())) for start, seen in reached.items()}
    return [set(group) for group in groups if len(group) > 1]


def test_no_modules_import_each_other():
    graph = {module: set(imports(module, parse(path.read_text("utf-8")))) for module, path in MODULES.items()}
    assert cycles(graph) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_test_files_have_names_of_their_own():
    """pytest imports them by name, and leaves out the second of two."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_package_has_one_line():
    assert {package_of(module) for module in MODULES} == {*LAYERS, *ABOVE}
    assert len({*LAYERS}) == len(LAYERS)


def test_imports_that_go_up_are_found():
    assert upward("lottapack.format.recipe", "def f():\n    from lottapack import nn") == ["lottapack.nn"]
    assert upward("lottapack.rng.fill", "import lottapack_cli.app") == ["lottapack_cli.app"]
    assert upward("lottapack.nn", "if TYPE_CHECKING:\n    from lottapack import loading") == []


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter; return the loaded modules."""
    code += "\nimport sys; print(*sys.modules)"
    path = [str(ROOT), str(ROOT / "cli")]
    script = f"import sys; sys.path[:0] = {path!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "numba", "transformers"}
PACK = ROOT / "spec" / "v1" / "vectors" / "files" / "valid"


@pytest.mark.parametrize(
    "code",
    [
        "import lottapack; dir(lottapack)",
        "import lottapack.rng, lottapack.format.packfile, lottapack.format.rules",
        f"import lottapack, pathlib\nfor p in pathlib.Path({str(PACK)!r}).glob('*.safetensors'): "
        "lottapack.inspect(p); lottapack.report(p)",
    ],
    ids=["import", "format", "inspect and report"],
)
def test_what_needs_no_tensor_loads_nothing_heavy(code):
    assert loaded_by(code) & HEAVY == set()


def test_heavy_imports_are_found():
    assert "torch" in loaded_by("import lottapack; lottapack.load")


def test_modules_say_what_they_do():
    assert found_in(lambda _, text: not ast.get_docstring(parse(text))) == {}


def broad(source: str) -> list[int]:
    """Return lines with an ``except`` that catches everything and does not re-raise."""
    found = []
    for node in ast.walk(parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = "BaseException" if node.type is None else ast.unparse(node.type)
        again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if caught in ("Exception", "BaseException") and not again:
            found.append(node.lineno)
    return found


def test_no_module_catches_everything_without_a_reason():
    assert found_in(lambda _, text: broad(text)).keys() == {*BROAD_EXCEPT}


def test_broad_handlers_are_found():
    assert broad("try: f()\nexcept: pass") == [2]
    assert broad("try: f()\nexcept Exception as e: raise E from e") == [2]
    assert broad("try: f()\nexcept BaseException:\n  g()\n  raise") == []
    assert broad("try: f()\nexcept OSError: pass") == []


PUBLIC_MODULES = [name for name in lottapack.__all__ if inspect.ismodule(getattr(lottapack, name))]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (lottapack, *(getattr(lottapack, name) for name in PUBLIC_MODULES))
    for name in getattr(module, "__all__", ())
    if callable(getattr(module, name))
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented_and_typed(name):
    found = PUBLIC[name]
    assert found.__doc__
    raises = found.__doc__.partition("Raises:")[2].partition("\n\n")[0]
    assert not re.search(r"\. (\w+Error, )*\w+Error: ", raises), "each error has an entry of its own"
    if inspect.isfunction(found):
        hints = inspect.signature(found)
        assert hints.return_annotation is not inspect.Signature.empty
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in hints.parameters.values())


def test_the_public_names_are_those_of_the_list():
    lines = (ROOT / "lottapack" / "__init__.pyi").read_text("utf-8").splitlines()
    listed = [line.rpartition(" as ")[2] for line in lines if line.startswith("from ")]
    assert lottapack.__all__ == sorted(listed)
    assert set(listed) <= set(dir(lottapack))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lottapack.nothing  # noqa: B018


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    drawn = {}
    path = ["LottapackError"]
    for line in errors.__doc__.split("::\n\n")[1].split("\n\n")[0].splitlines():
        indent = len(line) - len(line.lstrip(" │├└─"))
        name = line.strip(" │├└─").split()[0]
        path[indent // 4 - 1 :] = [name]
        drawn[name] = path[-2] if len(path) > 1 else "Exception"
    real = {}
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.LottapackError) and not name.startswith("_"):
            real[name] = next(base.__name__ for base in found.__mro__[1:] if not base.__name__.startswith("_"))
    assert drawn == real


FACTORIES = {
    *("arange", "as_tensor", "asarray", "empty", "empty_permuted", "empty_strided", "eye", "full", "linspace"),
    *("logspace", "ones", "rand", "randint", "randn", "randperm", "range", "scalar_tensor", "tensor", "zeros"),
}
"""What of torch makes a tensor out of the process's default dtype and device where a call names none."""


def of_defaults(source: str) -> list[str]:
    """Return calls that use the process's default dtype or device. ``new_*`` and ``*_like`` do not."""
    found = []
    for node in ast.walk(parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, named = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        if name in {f"torch.{factory}" for factory in FACTORIES} and not named >= {"dtype", "device"}:
            found.append(ast.unparse(node))
        if name in ("torch.Generator", "torch.Tensor") and not (node.args or "device" in named):
            found.append(ast.unparse(node))
    return found


def test_no_tensor_depends_on_a_default_of_the_process():
    assert found_in(lambda _, text: of_defaults(text)) == {}


def test_tensors_of_defaults_are_found():
    assert of_defaults("torch.empty(3, 4)") == ["torch.empty(3, 4)"]
    assert of_defaults("torch.zeros(3, dtype=torch.int64)") == ["torch.zeros(3, dtype=torch.int64)"]
    assert of_defaults("x.new_empty(3); torch.empty_like(x); torch.arange(3, dtype=k, device=d)") == []
    assert of_defaults("torch.Generator().manual_seed(0)") == ["torch.Generator()"]


def test_addresses_of_tensors_are_asked_for_in_one_place():
    """Kernels trust addresses, so kernel.py checks dtype, size and memory first."""
    found = {module for module, path in MODULES.items() if ".data_ptr()" in path.read_text("utf-8")}
    assert found == {"lottapack.rng.kernels.kernel", "lottapack.rng.gpu", "lottapack.rng.huge_pages"}


ONLY_HERE = {
    "huggingface_hub": ("lottapack.registry.hub", "lottapack.pushing.hub"),
    "jinja2": ("lottapack_serve.html.rendering",),
    "markdown_it": ("lottapack_serve.html.cards",),
    "nh3": ("lottapack_serve.html.cards",),
    "oras": ("lottapack.registry.oci",),
    "model_signing": ("lottapack.signing",),
    "starlette": ("lottapack_serve.",),
    "triton": ("lottapack.rng.gpu", "lottapack.products.gpu"),
    "uvicorn": ("lottapack_serve.connections", "lottapack_serve.server"),
}
"""Libraries that one part of the code knows, by the beginning of its modules' names."""


def strangers(module: str, source: str) -> list[str]:
    """Return the libraries of ONLY_HERE that a module imports without permission."""
    named: set[str] = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add((node.module or "").partition(".")[0])
    return sorted(name for name in named & ONLY_HERE.keys() if not module.startswith(ONLY_HERE[name]))


def test_each_client_library_has_its_place():
    assert found_in(strangers) == {}


def test_client_libraries_out_of_place_are_found():
    assert strangers("lottapack.loading.load", "def f():\n    from huggingface_hub import HfApi") == ["huggingface_hub"]
    assert strangers("lottapack.registry.hub_pull", "import huggingface_hub.constants, oras.provider") == ["oras"]
    assert strangers("lottapack_serve.app", "from starlette.routing import Route") == []


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for name in ("demo", "serve", "plot") for line in project["optional-dependencies"][name]]
    bounds = dict(line.split(">=") for line in (*project["dependencies"], *extras) if "[" not in line)
    lines = (ROOT / "tests" / "oldest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(pin) for name, pin in pins.items()} == {name: Version(at) for name, at in bounds.items()}


def test_every_module_can_be_imported():
    pytest.importorskip("transformers")
    pytest.importorskip("triton")
    for module in MODULES:
        if not module.endswith("__main__"):
            assert importlib.import_module(module).__name__ == module
