"""Write the dashboards: `python -m scripts.dashboards [FOLDER]`."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from scripts.dashboards import dependencies, jobs, nodes, overview, scheduler
from scripts.dashboards.panels import built

BOARDS = [module.BOARD for module in (overview, jobs, scheduler, nodes, dependencies)]
FOLDER = Path(__file__).parents[2] / "deploy/grafana/dashboards"


def write(folder: Path) -> None:
    """One file per dashboard."""
    for board in BOARDS:
        text = JSONEncoder(sort_keys=True, indent=1).encode(built(board))
        (folder / f"{board.uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
