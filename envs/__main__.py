"""Check names of environments: python -m envs NAME ...; without names, list the DM Control tasks."""

import sys

from envs import EnvError, check_name, dm_control_tasks, rendering
from errors import UsageError


def main():
    """Exit status 0 if all names exist, else 2. Custom modules are found, not imported."""
    rendering.disable_rendering()
    try:
        for name in sys.argv[1:]:
            check_name(name)
        if len(sys.argv) == 1:
            print("\n".join(sorted(dm_control_tasks())))
    except (EnvError, UsageError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
