// How many parts were rejected: in this shift, and in each hour of the last day.
import { clock, count, field, percent, setText } from "./dom.js";
import { confirmPost } from "./post.js";

const NS = "http://www.w3.org/2000/svg";
const SHOWN_H = 24, HOUR_MS = 3600 * 1000, PERIOD_MS = 60 * 1000;
const WIDTH = 240, HEIGHT = 54, BOTTOM = 12;

export function rejectRate({ ok, ng }) {
  return ok + ng ? ng / (ok + ng) : null;
}

export function showShift(cameras) {
  const all = { ok: 0, ng: 0 };
  const rows = Object.entries(cameras).map(([name, { shift }]) => {
    all.ok += shift.ok;
    all.ng += shift.ng;
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name || "Camera";
    const cells = [shift.ok, shift.ng, shift.invalid].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = count(value);
      return cell;
    });
    row.append(head, ...cells);
    return row;
  });
  document.getElementById("shift").replaceChildren(...rows);
  setText(field(document, "reject-rate"), percent(rejectRate(all)));
  const since = Object.values(cameras)[0]?.shift.since;
  setText(field(document, "shift-since"), since ? `since ${new Date(since).toLocaleDateString("en-GB")}, ${clock(since)}` : "");
}

async function showHours() {
  try {
    const response = await fetch("api/hours", { cache: "no-store" });
    if (response.ok) drawHours((await response.json()).cameras);
  } catch {
    // the page says already that the line does not answer
  }
}

function drawHours(cameras) {
  const hours = new Map();
  for (const { hour, ok, ng } of Object.values(cameras).flat()) {
    const sum = hours.get(hour) ?? { ok: 0, ng: 0 };
    hours.set(hour, { ok: sum.ok + ok, ng: sum.ng + ng });
  }
  const newest = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  const bars = [...hours].filter(([hour]) => newest - Date.parse(hour) < SHOWN_H * HOUR_MS);
  const most = Math.max(0.01, ...bars.map(([, counts]) => rejectRate(counts) ?? 0));
  const svg = document.getElementById("hours");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const nodes = bars.map(([hour, counts]) => {
    const rate = rejectRate(counts);
    const bar = document.createElementNS(NS, "rect");
    const height = rate === null ? 0 : Math.max(1, (rate / most) * (HEIGHT - BOTTOM - 2));
    const place = SHOWN_H - 1 - (newest - Date.parse(hour)) / HOUR_MS;
    const shape = { x: (place * WIDTH) / SHOWN_H + 1, y: HEIGHT - BOTTOM - height, width: WIDTH / SHOWN_H - 2, height };
    for (const [name, value] of Object.entries(shape)) bar.setAttribute(name, value);
    const title = document.createElementNS(NS, "title");
    title.textContent = `${clock(hour)}: ${percent(rate)} of ${count(counts.ok + counts.ng)} parts rejected`;
    bar.append(title);
    return bar;
  });
  const labels = [[0, "start", "24 h ago"], [WIDTH, "end", `now, at most ${percent(most)}`]].map(([x, anchor, text]) => {
    const node = document.createElementNS(NS, "text");
    node.setAttribute("x", x);
    node.setAttribute("y", HEIGHT - 1);
    node.setAttribute("text-anchor", anchor);
    node.textContent = text;
    return node;
  });
  svg.replaceChildren(...nodes, ...labels);
}

confirmPost("new-shift", "confirm-shift", "shift-now", () => "api/shift");
showHours();
setInterval(showHours, PERIOD_MS);
