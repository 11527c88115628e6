#!/usr/bin/env python3
"""results.json as a Markdown table and as an HTML page with bars: `report.py RESULTS.json` writes both beside it."""

import html as markup
import json
import math
import os
import statistics
import sys

import rows

COLOURS = {"native": "#777", "caisson ptrace": "#2a78c2", "caisson trap": "#0b9e6b", "caisson kvm": "#8e5bd0",
           "gvisor ptrace": "#d9822b", "runc": "#b5b5b5", "crun": "#d0d0d0"}


def shown(value, unit):
    if value is None:
        return "–"
    value /= rows.SCALE[unit]
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.05 else "0"
    return text


def medians(result, row):
    return {name: statistics.median(values) for name, values in result["values"].get(row.key, {}).items()}


def spread(values):
    """Half the distance of the quartiles, in percent of the median."""
    if len(values) < 4 or not statistics.median(values):
        return None
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / statistics.median(values) * 100


def ratio(row, value, native):
    """How much slower than native: above 1 is slower."""
    if not value or not native:
        return None
    return native / value if row.more else value / native


def ratio_text(number):
    if number is None:
        return ""
    return f" ({number:.2f}×)" if number < 10 else f" ({number:,.0f}×)"


def heading(result):
    load = " and ".join(f"{value:.1f}" for value in result["load"])
    lines = [f"{result['date']}; {result['machine']}; load average before and after: {load}.",
             f"Medians of {result['rounds']} interleaved rounds; in brackets how many times slower than native; "
             "± is half the distance of the quartiles."]
    if result.get("bare_sysemu"):
        ours, bare = result["bare_sysemu"]
        lines.append(f"A system call through the ptrace platform {ours:,.0f} ns, a bare PTRACE_SYSEMU + wait4 + GETREGSET + "
                     f"SETREGSET loop in the same process {bare:,.0f} ns: {ours / bare:.2f}×.")
    return lines


def markdown(result):
    subjects = result["subjects"]
    lines = heading(result)
    for title, group in rows.SECTIONS.items():
        present = [row for row in group if row.key in result["values"] or row.key in result["failures"]]
        if not present:
            continue
        lines += ["", f"| {title} | " + " | ".join(subjects) + " | target on trap |",
                  "| --- |" + " ---: |" * len(subjects) + " --- |"]
        for row in present:
            middle = medians(result, row)
            cells = []
            for name in subjects:
                if name in result["failures"].get(row.key, {}):
                    cells.append("fails")
                    continue
                value = middle.get(name)
                text = shown(value, row.unit)
                if value is not None:
                    around = spread(result["values"][row.key][name])
                    text += f" ±{around:.0f}%" if around is not None else ""
                    if name != "native":
                        text += ratio_text(ratio(row, value, middle.get("native")))
                cells.append(text)
            unit = f", {row.unit}" if row.unit else ""
            lines.append(f"| {row.label}{unit} | " + " | ".join(cells) + f" | {row.target} |")
    lines.append("")
    for name, version in result["versions"].items():
        lines.append(f"- {name}: `{version}`")
    for row, failed in result["failures"].items():
        for name, error in failed.items():
            lines.append(f"- {name} fails {row}: {' '.join(error.split())}")
    return "\n".join(lines) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin: 2em 0 .5em } .note { color: #555 }
table { border-collapse: collapse; width: 100% } td { padding: 0 .4em; vertical-align: top }
tr.first td { border-top: 1px solid #ddd; padding-top: .3em } td.label { width: 17em }
td.who { width: 8em; color: #555; font-size: .85em } td.text { width: 13em; text-align: right; font-size: .85em; white-space: nowrap }
.track { position: relative; height: 1em; margin-top: .25em; background-size: 100% 100% }
.bar { position: absolute; left: 0; top: .1em; bottom: .1em; border-radius: 2px; min-width: 2px }
.tick { position: absolute; top: 0; bottom: 0; width: 1px; background: #ccc } .scale { font-size: .75em; color: #777; position: relative; height: 1.2em }
.scale span { position: absolute; transform: translateX(-50%) } .key i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin: 0 .3em 0 1em; vertical-align: -.1em }
"""


def html(result):
    top = 1.0
    for group in rows.SECTIONS.values():
        for row in group:
            middle = medians(result, row)
            for name, value in middle.items():
                top = max(top, ratio(row, value, middle.get("native")) or 1)
    low, decades = 0.5, math.log10(max(top, 10) * 1.2 / 0.5)
    place = lambda number: max(0.0, min(100.0, math.log10(max(number, low) / low) / decades * 100))  # noqa: E731
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if tick <= top * 1.2]
    grid = "".join(f'<div class="tick" style="left:{place(tick):.2f}%"></div>' for tick in ticks)
    scale = '<div class="scale">' + "".join(f'<span style="left:{place(tick):.2f}%">{tick}×</span>'
                                            for tick in ticks) + "</div>"
    out = ["<!doctype html><html lang=en><meta charset=utf-8><title>Caisson: benchmarks</title>",
           f"<style>{STYLE}</style><h1>Caisson: what a sandbox costs</h1>"]
    out += [f"<p class=note>{markup.escape(line)}</p>" for line in heading(result)]
    out.append("<p>A bar shows how many times slower a program runs than on the host's own kernel: a bar that ends at 1× "
               "costs nothing, shorter is faster. The scale is logarithmic. Rows of start and rest have no native figure "
               "and show values only.</p><p class=key>")
    out += [f'<i style="background:{COLOURS.get(name, "#999")}"></i>{markup.escape(name)}'
            for name in result["subjects"] if name != "native"]
    out.append("</p>")
    for title, group in rows.SECTIONS.items():
        present = [row for row in group if row.key in result["values"] or row.key in result["failures"]]
        if not present:
            continue
        out.append(f"<h2>{markup.escape(title)}</h2><table><tr><td><td><td>{scale}<td></tr>")
        for row in present:
            middle = medians(result, row)
            native = middle.get("native")
            label = f"<b>{markup.escape(row.label)}</b>"
            if native is not None:
                label += f"<br><span class=note>native {shown(native, row.unit)} {row.unit}</span>"
            others = [name for name in result["subjects"] if name != "native"]
            for at, name in enumerate(others):
                value = middle.get(name)
                number = ratio(row, value, native)
                failed = name in result["failures"].get(row.key, {})
                bar = (f'<div class=bar style="width:{place(number):.2f}%;background:{COLOURS.get(name, "#999")}"></div>'
                       if number else "")
                text = "fails" if failed else shown(value, row.unit) + " " + row.unit + ratio_text(number)
                first = f'<td class=label rowspan="{len(others)}">{label}</td>' if at == 0 else ""
                out.append(f'<tr class="{"first" if at == 0 else ""}">{first}<td class=who>{markup.escape(name)}</td>'
                           f'<td><div class=track>{grid if native else ""}{bar}</div></td>'
                           f"<td class=text>{markup.escape(text)}</td></tr>")
        out.append("</table>")
    out.append("<p class=note>" + "<br>".join(markup.escape(f"{name}: {version}")
                                              for name, version in result["versions"].items()) + "</p></html>")
    return "\n".join(out)


if __name__ == "__main__":
    with open(sys.argv[1]) as source:
        data = json.load(source)
    folder = os.path.dirname(os.path.abspath(sys.argv[1]))
    with open(os.path.join(folder, "results.md"), "w") as target:
        target.write(markdown(data))
    with open(os.path.join(folder, "index.html"), "w") as target:
        target.write(html(data))
