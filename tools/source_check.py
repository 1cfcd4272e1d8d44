"""What the checks of src/ share: how they are called, and what they say."""
import pathlib
import sys


def run(problems):
    """Prints what problems(source) yields, and exits with 1 when it is anything, or nothing was checked."""
    default = pathlib.Path(__file__).resolve().parent.parent / 'src'
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    found = list(problems(source))
    for problem in found:
        print(problem)
    if not any(source.rglob('*.cc')):
        found.append('nothing checked')
        print(f'{source}: no sources here')
    sys.exit(1 if found else 0)
