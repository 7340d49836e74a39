"""The report: medians, tables in Markdown, and a plot. Measures nothing."""

import statistics


def median(samples):
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}


def beside(samples, name, other, count):
    """The median of the rounds' ratios of two rates; loads of one round are close in time."""
    pairs = zip(samples[(name, count)], samples[(other, count)])
    return statistics.median(sample["rate"] / than["rate"] for sample, than in pairs)


def rows_of(lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(samples, figures, connections):
    head = ["connections", "what", "checks/s", "/ no-op", "p50 ms", "p99 ms", "Redis us/check, script · process", "Redis calls/1000"]
    lines = [head, ["---:", "---"] + ["---:"] * 6]
    names = list(dict.fromkeys(name for name, _ in figures))
    for count in connections:
        for name in names:
            f = figures[(name, count)]
            ratio = beside(samples, name, "no-op", count)
            redis = [f"{f['us']:.2f} · {f['process_us']:.1f}", f"{f['calls']:.1f}"] if f["us"] else ["", ""]
            lines.append([str(count), name, f"{f['rate']:,.0f}", f"{ratio:.2f}", f"{f['p50']:.2f}", f"{f['p99']:.2f}", *redis])
    return rows_of(lines)


def plot(figures, connections):
    """Checks per second and median latency against connections, as SVG."""
    names = list(dict.fromkeys(name for name, _ in figures))
    colours = ["#888888", "#1b7837", "#b2182b", "#2166ac", "#e08214", "#762a83", "#35978f"]
    assert len(names) <= len(colours), "each line needs a colour of its own"
    width, height, left, top = 360, 220, 60, 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (width + left) + 60}" height="{height + 125}" font-family="sans-serif" font-size="12">']
    for panel, (key, title) in enumerate([("rate", "checks/s"), ("p50", "p50, ms")]):
        x0 = left + panel * (width + left + 20)
        most = max(f[key] for f in figures.values()) * 1.05
        parts.append(f'<text x="{x0}" y="{top - 15}" font-weight="bold">{title}</text>')
        for step in range(5):
            y = top + height - height * step / 4
            value = most * step / 4
            label = f"{value / 1000:.0f}k" if key == "rate" else f"{value:.1f}"
            parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
        place = {c: x0 + width * (i + 0.5) / len(connections) for i, c in enumerate(connections)}
        for count, x in place.items():
            parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{count}</text>')
        parts.append(f'<text x="{x0 + width / 2}" y="{top + height + 36}" text-anchor="middle">connections</text>')
        for name, colour in zip(names, colours):
            points = " ".join(f"{place[c]:.0f},{top + height - height * figures[(name, c)][key] / most:.0f}" for c in connections)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for index, (name, colour) in enumerate(zip(names, colours)):
        x, y = left + index % 4 * 210, height + 88 + index // 4 * 18
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 7}">{name}</text>')
    return "\n".join(parts + ["</svg>"])
