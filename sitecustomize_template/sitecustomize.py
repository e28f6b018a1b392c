"""Put first on PYTHONPATH by `posthog-instrument`: runs the host's own sitecustomize, then wakes the agent.

Any Python that inherits the environment runs this file, whatever its version, virtual environment or packages. So it
is written in old syntax, imports nothing that is not loaded, and is silent where the agent is not installed. The
host's sitecustomize behaves as without us, its errors too: they leave this file as they would leave its own.
"""

import sys


def _chain():
    """Run the sitecustomize that would have been found without this folder: the next one along the path."""
    own = __file__.replace("\\", "/").rpartition("/")[0]
    path = list(sys.path)
    mine = [str(entry).replace("\\", "/").rstrip("/") == own for entry in path]
    # What stands before this folder has run already: it is how this file came to run (another launcher's chain).
    after = path[mine.index(True) + 1 :] if True in mine else path
    module = sys.modules.get(__name__)
    try:
        sys.path[:] = after
        if sys.version_info[0] == 2:
            _chain_python2()
            return
        spec = None
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is not None:
                spec = find_spec("sitecustomize", None)
                if spec is not None:
                    break
        # Out of the path while the other runs: it may chain in its turn, and would find this one again.
        sys.path[:] = [entry for entry, is_mine in zip(path, mine) if not is_mine]
        if spec is not None and spec.loader is not None:
            from _frozen_importlib import module_from_spec

            other = module_from_spec(spec)
            sys.modules["sitecustomize"] = other
            spec.loader.exec_module(other)
    finally:
        if module is not None and sys.modules.get("sitecustomize") is None:
            sys.modules["sitecustomize"] = module
        if sys.path == after:
            sys.path[:] = path
        for index, is_mine in enumerate(mine):
            if is_mine and path[index] not in sys.path:
                sys.path.insert(min(index, len(sys.path)), path[index])


def _chain_python2():
    import imp

    try:
        found = imp.find_module("sitecustomize")
    except ImportError:
        return
    # imp would run the other file in this module's namespace; and a module that nobody holds loses its globals.
    sys.modules["_posthog_autoinstrument_sitecustomize"] = sys.modules.pop("sitecustomize")
    imp.load_module("sitecustomize", *found)


def _wake():
    try:
        from posthog_autoinstrument import wake

        wake.wake()
    except BaseException:
        # Not installed for this interpreter, or too old for it. Not even SystemExit may leave: site would abort.
        pass


try:
    _chain()
finally:
    _wake()
