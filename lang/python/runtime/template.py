"""What a Python template runs: python3 … /var/runtime/python/template.py. See lang/README.md."""

import sys

_RUNTIME = __file__.rpartition("/")[0]
sys.path.insert(0, _RUNTIME)

import lichen_forks  # the first: what is imported after it registers its fork hooks with it

lichen_forks.install()

import lichen_template

# Ours are loaded; from here on the path belongs to the function.
sys.path[:] = [folder for folder in sys.path if folder != _RUNTIME]

if __name__ == "__main__":
    lichen_template.run()
