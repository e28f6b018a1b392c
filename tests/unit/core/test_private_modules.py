"""Copies of modules: what they share with the program's, and what not."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import threading
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
from support.waiting import wait_until

from posthog_autoinstrument.core.private_modules import PREFIX, PrivateModules, stand_in

FILES = {
    "planet/__init__.py": """
        import sys
        from . import moons
        from .core import size, NAME
        import planet.core as by_its_name
        for name in list(sys.modules):
            if name == "planet" or name.startswith("planet."):
                sys.modules["alias." + name] = sys.modules[name]
    """,
    "planet/core.py": """
        import enum, dataclasses, warnings
        from . import moons  # which imports this
        from wave import open as wave_open
        NAME = __name__
        size = 3
        class Kind(enum.IntEnum):
            pass
        A_ROCK, A_GAS = 1, 2
        enum.IntEnum._convert_("Rocks", __name__, lambda name: name.startswith("A_"))
        @dataclasses.dataclass
        class Orbit:
            radius: int
        warnings.warn("of a copy")
        def later():
            from .late import VALUE
            return VALUE
    """,
    "planet/moons.py": "from . import core\nimport star\nLIGHT = star.LIGHT\n",
    "planet/late.py": "import importlib\nVALUE = importlib.import_module('star').LIGHT\n",
    "planet/broken.py": "import planet.late\nraise ValueError('broken')\n",
    "planet/finding.py": """
        import sys
        class Finder:  # as that of `six` inside urllib3 1.26
            def find_spec(self, name, path, target=None):
                from importlib.util import spec_from_loader
                return spec_from_loader(name, self) if name == __package__ + ".moved" else None
            def create_module(self, spec):
                __import__("wave")
                return sys.modules["wave"]
        sys.meta_path.append(Finder())
        from .moved import open
    """,
    "comets/__init__.py": """
        from . import tail
        import sun
        LIGHT = sun.LIGHT
        tail.length
    """,
    "comets/tail.py": "length = 5\n",
    "star.py": "LIGHT = object()\n",
}


@pytest.fixture
def copies(tmp_path: Path) -> PrivateModules:
    for name, source in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
    silent: Any = {"warn": lambda *_: None}
    return PrivateModules(
        lambda name: PathFinder.find_spec(name, [str(tmp_path)]),
        absent=("comet",),
        stand_ins={"warnings": stand_in(__import__("warnings"), **silent)},
    )


def test_copies_import_each_other_and_the_standard_library_is_the_programs(copies: PrivateModules) -> None:
    before, path = dict(sys.modules), list(sys.meta_path)
    planet: Any = copies.load("planet")
    import wave

    assert planet.NAME == PREFIX + "planet.core"
    assert planet.by_its_name is planet.core
    assert planet.moons.core is planet.core
    assert planet.core.wave_open is wave.open
    assert planet.core.Rocks.A_GAS == 2
    assert planet.core.Orbit(2) == planet.core.Orbit(2)
    assert planet.core.later() is planet.moons.LIGHT is copies.load("star").LIGHT  # type: ignore[attr-defined]
    assert copies.load("alias.planet") is planet
    new = {name for name in sys.modules if name not in before}
    assert not [name for name in new if "planet" in name or "star" in name]
    assert sys.meta_path == path


def test_a_second_set_of_copies_shares_nothing_with_the_first(copies: PrivateModules, tmp_path: Path) -> None:
    other = PrivateModules(lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    assert copies.load("star").LIGHT is not other.load("star").LIGHT  # type: ignore[attr-defined]


def test_what_fails_leaves_nothing_behind_and_fails_again(copies: PrivateModules) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            copies.load("planet.broken")
    assert f"{PREFIX}planet.broken" not in sys.modules
    for name in ("comet", "planet.nothing", "star.nothing"):
        with pytest.raises(ModuleNotFoundError):
            copies.load(name)


def test_what_could_not_be_loaded_is_loaded_as_a_whole_later(copies: PrivateModules, tmp_path: Path) -> None:
    """A process may have all the files open that it can have."""
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="sun"):
            copies.load("comets")
    (tmp_path / "sun.py").write_text("LIGHT = 1\n")
    importlib.invalidate_caches()
    comets: Any = copies.load("comets")
    assert (comets.LIGHT, comets.tail.length) == (1, 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_a_copy_is_loaded_knows_that_nobody_finishes_it(
    copies: PrivateModules, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, time\nopen(__file__ + '.began', 'w').close()\n"
        "while not os.path.exists(__file__ + '.go'): time.sleep(0.001)\n"
    )
    thread = threading.Thread(target=copies.load, args=("slow",))
    thread.start()
    wait_until((tmp_path / "slow.py.began").exists, "the copy is not executed")
    assert not copies.is_half_loaded()
    child = os.fork()
    if child == 0:
        os._exit(0 if copies.is_half_loaded() else 1)
    (tmp_path / "slow.py.go").touch()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert not copies.is_half_loaded()


def test_a_finder_of_the_copies_own_gives_another_name_to_a_module_of_the_programs(copies: PrivateModules) -> None:
    import wave

    spec, own = wave.__spec__, wave.__builtins__  # type: ignore[attr-defined]
    assert copies.load("planet.finding").open is wave.open  # type: ignore[attr-defined]
    assert wave.__spec__ is spec
    assert wave.__builtins__ is own  # type: ignore[attr-defined]
