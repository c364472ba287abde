"""python plot.py peers.json peers.svg: a chart of each route's throughput and p50, on white, so that it is readable in
dark mode."""

import json
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator  # noqa: E402

source, target = sys.argv[1:]
results = json.loads(pathlib.Path(source).read_text())["backends"]
# Distinguishable with any colour vision, and in greyscale with the markers.
STYLES = [("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#5a5a5a", "D")]
plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "peers", "font.family": "sans-serif", "font.size": 11}

figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
for row, route in zip(axes, ("me", "login"), strict=True):
    for chart, (field, title) in zip(
        row, (("rate", "responses per second"), ("p50_ms", "p50, milliseconds")), strict=True
    ):
        for (name, one), (colour, marker) in zip(results.items(), STYLES, strict=True):
            points = []
            for clients, cells in one[route].items():
                # A cell with wrong responses does not count, nor a percentile when many were outstanding at the end.
                counts = all(cell["answers"] and not cell["wrong"] and not cell["failed"] for cell in cells)
                enough = field == "rate" or statistics.mean(cell["answers"] for cell in cells) >= 2 * int(clients)
                if counts and enough:
                    points.append((int(clients), statistics.median(cell[field] for cell in cells)))
            chart.plot([x for x, _ in points], [y for _, y in points], color=colour, marker=marker, label=name)
        chart.set(title=f"{route}: {title}", xlabel="clients", xscale="log", yscale="log")
        chart.set_xticks([int(clients) for clients in one[route]])
        chart.xaxis.set_minor_locator(NullLocator())
        for axis in (chart.xaxis, chart.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        chart.yaxis.set_minor_formatter(NullFormatter())
        chart.grid(color="#dddddd")
figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(results), frameon=False)
figure.savefig(target, metadata={"Date": None})
# Without trailing spaces, which editors would remove.
path = pathlib.Path(target)
path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))
