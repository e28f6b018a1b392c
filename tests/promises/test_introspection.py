"""Promise: to pickle, copy, inspect, typing, mock and help, patched methods look like the SDK's own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.resources.chat.completions import Completions
from support.comparison import same

pytestmark = pytest.mark.promise

METHODS = """
import copy, functools, inspect, pydoc, typing, weakref
from unittest import mock
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.embeddings import AsyncEmbeddings, Embeddings
from openai.resources.responses import AsyncResponses, Responses  # needs responses
from openai.resources.completions import AsyncCompletions as AsyncLegacy, Completions as Legacy
from openai._base_client import AsyncAPIClient, SyncAPIClient

CLASSES = [Completions, AsyncCompletions, Embeddings, AsyncEmbeddings, Legacy, AsyncLegacy]
CLASSES += [Responses, AsyncResponses]  # needs responses
METHODS = [(cls, name) for cls in CLASSES for name in ("create", "parse", "stream") if hasattr(cls, name)]
WIRE = [(cls, name) for cls in (SyncAPIClient, AsyncAPIClient) for name in ("request", "_process_response")]
client, aclient = openai.OpenAI(), openai.AsyncOpenAI()

def answer(question, *args):
    try:
        return question(*args)
    except Exception as error:
        return repr(error)
"""


def test_same_answers_of_inspect_and_typing(tmp_path: Path) -> None:
    same(
        tmp_path,
        METHODS
        + """
for cls, name in WIRE:
    method = getattr(cls, name)
    tell("== wire", cls, name, type(method), method is getattr(cls, name), method)
    for question in (
        inspect.signature, inspect.iscoroutinefunction, inspect.isfunction, inspect.getsource, inspect.getdoc,
        inspect.getmodule, lambda f: f.__module__, lambda f: f.__qualname__, lambda f: pydoc.render_doc(f),
        lambda f: sorted(typing.get_type_hints(f)), lambda f: inspect.unwrap(f).__code__.co_filename,
    ):
        tell(answer(question, method))

for cls, name in METHODS:
    method = getattr(cls, name)
    tell("==", cls, name)
    for question in (
        inspect.signature, inspect.iscoroutinefunction, asyncio.iscoroutinefunction, inspect.isasyncgenfunction,
        inspect.isgeneratorfunction, inspect.isfunction, inspect.ismethod, inspect.isroutine,
        inspect.ismethoddescriptor, inspect.isbuiltin, inspect.isclass, callable,
        inspect.getsource, inspect.getsourcefile, inspect.getdoc,
        inspect.getmodule, inspect.getfullargspec, inspect.getcomments, inspect.get_annotations,
        lambda f: inspect.getsourcelines(f)[1], lambda f: len(typing.get_overloads(f)), lambda f: f.__module__,
        lambda f: isinstance(f, types.FunctionType), lambda f: isinstance(f, types.MethodType), lambda f: f.__name__,
        lambda f: f.__qualname__, lambda f: f.__doc__, lambda f: f.__defaults__, lambda f: f.__kwdefaults__,
        lambda f: f.__annotations__, lambda f: f.__globals__["__name__"],
        lambda f: f.__class__, lambda f: f.__get__(None, cls).__name__,
        lambda f: inspect.unwrap(f).__code__.co_filename,
        lambda f: inspect.unwrap(f).__code__.co_name, lambda f: hasattr(f, "__self__"),
        lambda f: hasattr(f, "__func__"), lambda f: hasattr(f, "__deprecated__"),
        lambda f: weakref.ref(f)() is not None,
        lambda f: isinstance(f, typing.Callable), lambda f: pydoc.render_doc(f), lambda f: f == getattr(cls, name),
        lambda f: hash(f) == hash(getattr(cls, name)), lambda f: f in {getattr(cls, name)}, bool,
        lambda f: functools.partial(f, 1).func == f, lambda f: sorted(typing.get_type_hints(f)),
    ):
        tell(answer(question, method))

resources = [client.chat.completions, aclient.chat.completions, aclient.embeddings]
resources += [client.responses]  # needs responses
for resource in resources:
    for name in ("create", "parse", "stream"):
        bound = getattr(resource, name, None)
        if bound is None:
            continue
        tell("== bound", type(resource), name)
        for question in (
            inspect.signature, inspect.iscoroutinefunction, asyncio.iscoroutinefunction, inspect.isfunction,
            inspect.ismethod, inspect.isroutine, inspect.getsource, inspect.getdoc, callable, inspect.getmodule,
            lambda f: isinstance(f, types.MethodType), lambda f: f.__self__ is resource, lambda f: f.__name__,
            lambda f: f.__qualname__, lambda f: f.__func__.__qualname__, lambda f: f == getattr(resource, name),
            lambda f: hash(f) == hash(getattr(resource, name)), lambda f: f.__module__, lambda f: f.__doc__,
            lambda f: getattr(f, "__deprecated__", None),
            lambda f: pydoc.render_doc(f), lambda f: f.__class__, lambda f: bool(f),
        ):
            tell(answer(question, bound))
for cls in (Completions, AsyncEmbeddings):
    tell(pydoc.render_doc(cls))
    tell(sorted(vars(cls)), dir(cls), cls.__mro__, [name for name, _ in inspect.getmembers(cls, inspect.isfunction)])
    tell(inspect.getsource(cls) == inspect.getsource(cls), inspect.classify_class_attrs(cls)[0].kind)
    tell([(a.name, a.kind, a.defining_class) for a in inspect.classify_class_attrs(cls)])
""",
        events=0,
    )


def test_same_answers_of_copy_and_mock(tmp_path: Path) -> None:
    same(
        tmp_path,
        METHODS
        + """
for cls, name in METHODS + WIRE:
    method = getattr(cls, name)
    tell("==", cls, name, len(pickle.dumps(method)) > 0)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        tell(pickle.loads(pickle.dumps(method, protocol)) == method)
    tell(copy.copy(method) == method, copy.deepcopy(method) == method, copy.deepcopy({"f": [method]})["f"][0] == method)
    tell(copy.copy(method).__qualname__, copy.deepcopy(method).__qualname__, isinstance(method, types.FunctionType))
    tell(functools.wraps(method)(lambda: None).__qualname__)

class Client:  # can be pickled; the SDK's clients cannot
    base_url = "http://x"

    def __eq__(self, other):
        return type(other) is Client

    __hash__ = None

    def _get(self): ...
    get = post = patch = put = delete = get_api_list = _get

resource = Completions(Client())
bounds = [resource.create]
bounds += [resource.parse]  # needs chat.completions.parse
bounds += [resource.stream]  # needs chat.completions.stream
for bound in bounds:
    again = pickle.loads(pickle.dumps(bound))
    tell(again.__name__, again.__self__._client == Client(), again.__self__ is resource)
    tell(isinstance(again, types.MethodType))
    tell(copy.copy(bound) == bound, copy.copy(bound).__self__ is resource)
    deep = copy.deepcopy(bound)
    tell(deep.__self__ is resource, deep.__self__._client == Client(), deep.__name__)
both = copy.deepcopy([resource, resource.create])
tell(both[0] is both[1].__self__)
for thing in (client.chat.completions.create, client, copy.copy):
    try:
        tell(len(pickle.dumps(thing)) > 0)
    except Exception as error:
        tell(repr(error))
tell(copy.copy(client).chat.completions.create.__self__ is client.chat.completions)

for cls, name in METHODS:
    before = cls.__dict__[name]
    with mock.patch.object(cls, name, autospec=True) as fake:
        tell("==", cls, name, type(fake), inspect.iscoroutinefunction(fake), isinstance(fake, types.FunctionType))
        tell(inspect.signature(fake), getattr(cls, name) is fake, inspect.signature(getattr(cls, name)))
        if "Async" not in cls.__name__:
            fake.return_value = "faked"
            owners = {"Completions": client.chat.completions}
            owners["Responses"] = client.responses  # needs responses
            owner = owners.get(cls.__name__)
            if cls is not Legacy and owner is not None:
                request = CHAT if cls is Completions else RESPONSE
                tell(getattr(owner, name)(**request), fake.call_args.kwargs, len(fake.call_args.args))
                try:
                    getattr(owner, name)(nonsense=1)
                except TypeError as error:
                    tell(error)
    tell(cls.__dict__[name] is before, name in cls.__dict__)
spec = mock.create_autospec(Completions)
tell(inspect.signature(spec.create), type(spec.create))
with mock.patch("openai.resources.chat.completions.Completions.create") as fake:
    tell(client.chat.completions.create(**CHAT) is fake.return_value, fake.call_args)
with mock.patch.object(client.chat.completions, "create") as fake:
    fake.return_value = 7
    tell(client.chat.completions.create(**CHAT), sorted(vars(client.chat.completions)))
tell(sorted(vars(client.chat.completions)), client.chat.completions.create.__name__)
with mock.patch.object(client.chat.completions, "create", wraps=client.chat.completions.create) as fake:
    tell(client.chat.completions.create(**CHAT).id, fake.call_count)

# By hand, as programs that know neither do it: kept, replaced, put back, subclassed, wrapped again.
kept = Completions.create
Completions.create = lambda self, **kwargs: "by hand"
tell(client.chat.completions.create(**CHAT))
Completions.create = kept
tell(client.chat.completions.create(**CHAT).id, inspect.signature(client.chat.completions.create) is not None)
tell(Completions.create(client.chat.completions, **CHAT).id)

class Sub(Completions):
    def create(self, **kwargs):
        return super().create(**kwargs)

tell(Sub(client).create(**CHAT).id, Sub.create.__qualname__)

@functools.wraps(kept)
def around(self, *args, **kwargs):
    return kept(self, *args, **kwargs)

Completions.create = around
tell(client.chat.completions.create(**CHAT).id, inspect.signature(around))
Completions.create = kept
tell(functools.partial(client.chat.completions.create, model="gpt-4o-mini")(messages=MESSAGES).id)
setattr(Completions, "again", Completions.__dict__["create"])
tell(client.chat.completions.again(**CHAT).id)
""",
        events=7,
    )


# In the test process, which is instrumented: what the SDK's own functions answer is known.
IDENTITY: dict[str, Callable[[Any], bool]] = {
    "identity": lambda bound: Completions.create is Completions.create,
    "class dictionary": lambda bound: Completions.create is vars(Completions)["create"],
    "function of a bound method": lambda bound: bound.__func__ is Completions.create,
    "repr": lambda bound: repr(Completions.create).startswith("<function Completions.create at "),
    "repr of a bound method": lambda bound: repr(bound).startswith("<bound method Completions.create of <openai."),
    "WeakMethod": lambda bound: weakref.WeakMethod(bound)() == bound,
}


@pytest.mark.parametrize("question", IDENTITY)
def test_same_identity_and_repr_of_methods(client: Any, question: str) -> None:
    assert IDENTITY[question](client.chat.completions.create)


def test_pickles_of_either_process_load_in_the_other(tmp_path: Path) -> None:
    """A pool's worker may be instrumented where its parent is not, and the other way round."""
    dump = (
        "import pickle, sys, openai\nfrom openai.resources.chat.completions import Completions\n"
        "sys.stdout.buffer.write(pickle.dumps(Completions.create))"
    )
    load = (
        "import pickle, sys\nfrom openai.resources.chat.completions import Completions\n"
        "assert pickle.loads(sys.stdin.buffer.read()) == Completions.create"
    )
    launcher = [sys.executable, "-m", "posthog_autoinstrument"]
    for dumping, loading in (([], launcher), (launcher, [])):
        dumped = subprocess.run([*dumping, sys.executable, "-c", dump], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run([*loading, sys.executable, "-c", load], input=dumped, check=True)
    assert pickle.loads(dumped).__name__ == "create"
