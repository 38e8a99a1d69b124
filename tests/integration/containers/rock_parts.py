"""In a container: the lifecycle of a rock's parts, up to what the rock has on top of its base.

`rock_parts.py RECIPE WORK`: RECIPE is in the folder that the parts' sources start from; WORK gets
`prime`. Parts that need the rock's base are left out: their packages go into an overlay of it.
"""

import sys
from pathlib import Path

import yaml
from craft_parts import LifecycleManager, Step  # type: ignore[import-not-found]

recipe, work = Path(sys.argv[1]), Path(sys.argv[2])
described = yaml.safe_load(recipe.read_text())
parts = {name: part for name, part in described["parts"].items() if "overlay-packages" not in part}
lifecycle = LifecycleManager(
    {"parts": parts}, application_name="temporaletl", cache_dir=work / "cache", work_dir=work
)
with lifecycle.action_executor() as executor:
    for action in lifecycle.plan(Step.PRIME):
        executor.execute(action, stdout=sys.stderr, stderr=sys.stderr)
print(*sorted(parts))  # noqa: T201
