"""Put first on PYTHONPATH by `posthog-instrument`: runs the host's own sitecustomize, then wakes the agent.

Any Python that inherits the environment runs this file, whatever its version, virtual environment or packages. So it
is written in old syntax, imports nothing that is not loaded, and is silent where the agent is not installed. The
host's sitecustomize behaves as without us, its errors too: they leave this file as they would leave its own.
"""
import sys


def _chain():
    """Run the sitecustomize that would have been found without this folder."""
    own = __file__.replace("\\", "/").rpartition("/")[0]
    path = list(sys.path)
    mine = sys.modules.get(__name__)
    # Out of the path while it runs: another launcher's sitecustomize chains in its turn, and would find this one again.
    sys.path[:] = [entry for entry in path if str(entry).replace("\\", "/").rstrip("/") != own]
    removed = [(index, entry) for index, entry in enumerate(path) if entry not in sys.path]
    try:
        spec = None
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is not None:
                spec = find_spec("sitecustomize", None)
                if spec is not None:
                    break
        if spec is not None and spec.loader is not None:
            from _frozen_importlib import module_from_spec

            module = module_from_spec(spec)
            sys.modules["sitecustomize"] = module
            spec.loader.exec_module(module)
    finally:
        if mine is not None and sys.modules.get("sitecustomize") is None:
            sys.modules["sitecustomize"] = mine
        for index, entry in removed:
            if entry not in sys.path:
                sys.path.insert(min(index, len(sys.path)), entry)


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
