// The score against its threshold over time, as SVG: one path each for scores, threshold, NG and INVALID.
import { number } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const LONGEST_S = 300;
const SHORTEST_S = 20;
const KEPT = 3000;
const LEFT = 52, RIGHT = 12, TOP = 10, BOTTOM = 22;

export class Chart {
  constructor(svg) {
    this.svg = svg;
    this.points = [];
    this.parts = {};
    for (const name of ["over", "grid", "scores", "threshold", "invalid", "ng"]) {
      this.parts[name] = document.createElementNS(NS, name === "over" ? "rect" : "path");
      this.parts[name].setAttribute("class", name);
      svg.append(this.parts[name]);
    }
    this.labels = [];
  }

  /** Take in points that are new, the first of them perhaps in place of the last one here. */
  add(points) {
    for (const point of points) {
      while (this.points.length && this.points.at(-1).id >= point.id) this.points.pop();
      this.points.push(point);
    }
    this.points.splice(0, this.points.length - KEPT);
  }

  clear() {
    this.points = [];
  }

  draw(now) {
    const { width, height } = this.svg.getBoundingClientRect();
    const first = this.points.length ? this.points[0].time : now;
    const span = Math.min(LONGEST_S, Math.max(SHORTEST_S, now - first));
    const seen = this.points.filter((point) => point.time >= now - span);
    const scores = seen.filter((point) => point.score !== null);
    const [low, high] = range(scores);
    const x = (time) => LEFT + (1 - (now - time) / span) * (width - LEFT - RIGHT);
    const y = (score) => TOP + ((high - score) / (high - low)) * (height - TOP - BOTTOM);
    const threshold = scores.length ? scores.at(-1).threshold : null;

    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.path("grid", `M${LEFT} ${height - BOTTOM}H${width - RIGHT}`);
    this.path("scores", scores.map((p, i) => `${i ? "L" : "M"}${place(x(p.time), y(p.score))}`).join(""));
    this.path("threshold", scores.length ? steps(scores, x, y) + `H${width - RIGHT}` : "");
    this.path("ng", marks(scores.filter((p) => p.ng), (p) => square(x(p.time), y(p.score))));
    this.path("invalid", marks(seen.filter((p) => p.invalid), (p) => cross(x(p.time), height - BOTTOM - 6)));
    this.overThreshold(threshold === null ? null : y(threshold), width);
    this.text([
      ...(threshold === null ? [] : [[LEFT - 8, y(threshold) + 4, number(threshold), "end", "at"]]),
      ...(scores.length && Math.abs(y(threshold) - TOP) > 16 ? [[LEFT - 8, TOP + 8, number(high), "end"]] : []),
      ...(scores.length && height - BOTTOM - y(threshold) > 16 ? [[LEFT - 8, height - BOTTOM, number(low), "end"]] : []),
      [LEFT, height - 6, `−${span >= 120 ? `${Math.round(span / 60)} min` : `${Math.round(span)} s`}`, "start"],
      [width - RIGHT, height - 6, "now", "end"],
    ]);
    const ng = seen.reduce((sum, p) => sum + p.ng, 0), invalid = seen.reduce((sum, p) => sum + p.invalid, 0);
    this.svg.setAttribute(
      "aria-label",
      scores.length
        ? `Score over the last ${Math.round(span)} seconds: newest ${number(scores.at(-1).score)}, threshold ` +
            `${number(threshold)}, ${ng} NG, ${invalid} invalid`
        : "Score over time: no score yet",
    );
  }

  path(name, d) {
    this.parts[name].setAttribute("d", d);
  }

  overThreshold(bottom, width) {
    const shape = { x: LEFT, y: TOP, width: Math.max(0, width - LEFT - RIGHT), height: Math.max(0, (bottom ?? TOP) - TOP) };
    for (const [name, value] of Object.entries(shape)) this.parts.over.setAttribute(name, value);
  }

  text(labels) {
    while (this.labels.length > labels.length) this.labels.pop().remove();
    while (this.labels.length < labels.length) {
      this.labels.push(this.svg.appendChild(document.createElementNS(NS, "text")));
    }
    labels.forEach(([x, y, text, anchor, kind], i) => {
      const node = this.labels[i];
      node.setAttribute("x", x);
      node.setAttribute("y", y);
      node.setAttribute("text-anchor", anchor);
      node.setAttribute("class", kind ?? "");
      node.textContent = text;
    });
  }
}

function range(points) {
  let low = Infinity, high = -Infinity;
  for (const { score, threshold } of points) {
    low = Math.min(low, score, threshold);
    high = Math.max(high, score, threshold);
  }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.12;
  return [low - room, high + room];
}

function steps(points, x, y) {
  let d = `M${place(x(points[0].time), y(points[0].threshold))}`;
  let last = points[0].threshold;
  for (const { time, threshold } of points) {
    if (threshold !== last) d += `H${x(time).toFixed(1)}V${y(threshold).toFixed(1)}`;
    last = threshold;
  }
  return d;
}

const place = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
const marks = (points, draw) => points.map(draw).join("");
const square = (x, y) => `M${place(x - 3.5, y - 3.5)}h7v7h-7z`;
const cross = (x, y) => `M${place(x - 4, y - 4)}l8 8M${place(x + 4, y - 4)}l-8 8`;
