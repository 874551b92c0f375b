"""Run a module as if packages were not installed: python without.py hydra,mlflow experiments.run ...."""

import runpy
import sys


class Without:
    """A finder that does not find some packages."""

    def __init__(self, finder, names) -> None:  # type: ignore[no-untyped-def]
        self.finder, self.names = finder, names

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name.partition(".")[0] in self.names:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        return getattr(self.finder, name)


if __name__ == "__main__":
    names = set(sys.argv[1].split(","))
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
