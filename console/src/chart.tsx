// Charts by uPlot. What they show is also in a table of the same page, for screen readers.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

import { compact } from "./format";

export interface Series {
  name: string;
  /** A custom property of the style sheet; an area is filled with the one that ends in `-soft`. */
  color: string;
  values: (number | null)[];
}

const DAY = 86_400;
const dayMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const hourMinute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

/** The color of a custom property as the canvas needs it, in the theme that is on. */
function resolve(probe: HTMLElement, property: string): string {
  probe.style.color = `var(${property})`;
  return getComputedStyle(probe).color;
}

/** Changes whenever the theme does. */
function useThemeCount(): number {
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    const changed = () => setChanges((before) => before + 1);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", changed);
    const observer = new MutationObserver(changed);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      dark.removeEventListener("change", changed);
      observer.disconnect();
    };
  }, []);
  return changes;
}

/** Sums of the series up to each, so that they are drawn on top of each other. */
function stacked(series: Series[]): (number | null)[][] {
  let below: (number | null)[] = [];
  return series.map(({ values }) => {
    below = values.map((value, at) => (value === null ? null : value + (below[at] ?? 0)));
    return below;
  });
}

/**
 * A chart of `series` over `times`, in seconds since 1970. With `bars` each time is a day, drawn as a
 * bar; otherwise areas on top of each other.
 */
export function Chart(props: {
  label: string;
  times: number[];
  series: Series[];
  bars?: boolean;
  unit?: string;
  height?: number;
  limit?: number | null;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = useThemeCount();
  const { times, series, bars = false, height = 220, limit } = props;
  const sums = stacked(series);
  // The largest sum is drawn first, behind the others.
  const data = [times, ...[...sums].reverse()] as uPlot.AlignedData;
  const names = series.map((one) => one.name).join();

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const probe = document.createElement("span");
    element.append(probe);
    const color = (property: string) => resolve(probe, property);
    const [text, grid] = [color("--muted"), color("--line")];
    const shown = [...series].reverse().map((one) => {
      const stroke = color(one.color);
      const paths = bars ? uPlot.paths.bars?.({ size: [0.7, 28], radius: 0.15 }) : uPlot.paths.stepped?.({ align: -1 });
      return {
        label: one.name,
        stroke,
        width: bars ? 0 : 1.5,
        // Opaque: each area covers the part of the larger sum behind it.
        fill: bars ? stroke : color(`${one.color}-soft`),
        paths,
        points: { show: false },
      } as uPlot.Series;
    });
    const capColor = color("--bad");
    probe.remove();
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 20, 0, 0],
        scales: {
          x: bars ? { time: true, range: (_plot, min, max) => [min - DAY / 2, max + DAY / 2] } : { time: true },
          y: { range: (_plot, _min, max) => [0, Math.max(max, limit ?? 0, 1) * 1.08] },
        },
        axes: [
          {
            ...axis,
            grid: { show: false },
            space: 64,
            size: 28,
            values: (_plot, splits) => splits.map((at) => (bars ? dayMonth : hourMinute).format(at * 1_000)),
            // No ticks between whole days, or between whole minutes.
            incrs: bars ? [1, 2, 3, 5, 7, 10, 14].map((days) => days * DAY) : [1, 2, 3, 5, 10, 15].map((min) => min * 60),
          },
          { ...axis, size: 52, values: (_plot, splits) => splits.map((split) => (split % 1 === 0 || split < 10 ? compact(split) : "")) },
        ],
        series: [{}, ...shown],
        hooks: {
          draw: [
            (drawn) => {
              if (!limit) return;
              const y = drawn.valToPos(limit, "y", true);
              const { ctx, bbox } = drawn;
              ctx.save();
              ctx.strokeStyle = capColor;
              ctx.lineWidth = devicePixelRatio;
              ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
              ctx.beginPath();
              ctx.moveTo(bbox.left, y);
              ctx.lineTo(bbox.left + bbox.width, y);
              ctx.stroke();
              ctx.restore();
            },
          ],
        },
      },
      data,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [theme, names, bars, height, limit]);

  useEffect(() => {
    plot.current?.setData(data);
  });

  return (
    <figure class="chart">
      <figcaption class="legend">
        {series.map((one) => (
          <span key={one.name}>
            <i class="swatch" style={{ background: `var(${one.color})` }} />
            {one.name}
          </span>
        ))}
        {limit ? (
          <span>
            <i class="swatch dashed" />
            limit
          </span>
        ) : null}
        {props.unit && <span class="unit">{props.unit}</span>}
      </figcaption>
      <div ref={box} class="plot" role="img" aria-label={props.label} style={{ minHeight: `${height}px` }} />
    </figure>
  );
}
