// The card of one camera. What it can't vouch for it takes away: no verdict outlives its line or its connection.
import { Chart } from "./chart.js";
import { clock, clone, count, duration, field, milliseconds, number, percent, setText } from "./dom.js";
import { rejectRate } from "./shift.js";

const SHAPES = { OK: "ok", NG: "ng", INVALID: "invalid", NONE: "none" };
const OLD_S = 10;

export class Camera {
  constructor(name) {
    this.name = name;
    this.root = clone("camera-template");
    this.chip = document.createElement("button");
    this.chip.type = "button";
    this.chip.addEventListener("click", () => this.root.scrollIntoView({ behavior: "smooth", block: "start" }));
    this.image = this.root.querySelector("img");
    this.chart = new Chart(this.root.querySelector(".chart"));
    this.wanted = null;
    this.loading = false;
    setText(field(this.root, "name"), name || "Camera");
    this.image.addEventListener("load", () => this.loaded(true));
    this.image.addEventListener("error", () => this.loaded(false));
  }

  /** `status` is of /api/status, `history` of /api/history (undefined before the first result). */
  update(status, history, line, now, heat) {
    this.chart.add(history?.points ?? []);
    this.chart.draw(now);
    this.showCounts(status);
    const result = history?.shown ?? null;
    const instead = insteadOfVerdict(status, result, line);
    if (instead) this.call("NONE", instead.text, instead.reason);
    else this.call(result.verdict, result.verdict, result.reason ?? "");
    const scored = !instead && result.score !== null;
    setText(field(this.root, "score"), scored ? number(result.score) : "–");
    setText(field(this.root, "threshold"), number(result?.threshold));
    setText(field(this.root, "part"), result && !instead ? about(result, status, line.recipes) : "");
    if (instead || !result.has_image) this.showNoPicture(instead ? "" : "No image");
    else this.showPicture(`${result.sequence}&heat=${heat ? 1 : 0}`, result);
  }

  /** Take the verdict, the score and the picture away. */
  lose(text) {
    this.call("NONE", text, "");
    for (const name of ["score", "fps", "p50", "p99"]) setText(field(this.root, name), "–");
    setText(field(this.root, "part"), "");
    this.showNoPicture("");
  }

  call(verdict, text, reason) {
    this.root.dataset.verdict = verdict;
    this.root.dataset.length = text.length <= 2 ? "short" : text.length <= 8 ? "medium" : "long";
    this.root.querySelector("use").setAttribute("href", `#shape-${SHAPES[verdict] ?? SHAPES.NONE}`);
    setText(field(this.root, "verdict"), text);
    this.chip.dataset.verdict = verdict;
    setText(this.chip, `${this.name || "Camera"}: ${text}`);
    setText(field(this.root, "reason"), reason);
  }

  showCounts(status) {
    const kind = status.live ? (status.connected ? "live" : "away") : "recorded";
    setText(field(this.root, "kind"), kind);
    setText(field(this.root, "fps"), status.fps === null ? "–" : status.fps.toFixed(1));
    setText(field(this.root, "p50"), milliseconds(status.latency_ms?.p50));
    setText(field(this.root, "p99"), milliseconds(status.latency_ms?.p99));
    setText(field(this.root, "rejected"), percent(rejectRate(status.shift)));
    for (const name of ["invalid", "dropped", "reconnects"]) {
      const node = field(this.root, name);
      setText(node, count(status[name]));
      node.parentElement.classList.toggle("some", status[name] > 0);
    }
    const causes = Object.entries(status.invalid_by_cause).map(([cause, n]) => `${cause}: ${n}`);
    field(this.root, "invalid").title = causes.join(", ");
  }

  showPicture(version, result) {
    this.image.alt = `${result.verdict}, newest picture of ${this.name || "the camera"}`;
    if (this.wanted === version) return;
    if (this.loading) return; // the next look asks for what is newest then
    this.wanted = version;
    this.loading = true;
    this.image.src = `api/frame/${encodeURIComponent(this.name)}.jpg?n=${version}`;
  }

  loaded(fine) {
    this.loading = false;
    if (this.wanted === null) return;
    this.image.hidden = !fine;
    setText(field(this.root, "no-picture"), fine ? "" : "No image");
  }

  showNoPicture(text) {
    this.wanted = null;
    this.loading = false;
    this.image.hidden = true;
    this.image.removeAttribute("src");
    setText(field(this.root, "no-picture"), text);
  }
}

function insteadOfVerdict(status, result, line) {
  if (line.state !== "running") return { text: line.state.toUpperCase(), reason: "The line is not inspecting." };
  if (line.pulse_age_s >= line.monitor.silent_s) {
    return { text: "HUNG", reason: `The engine has not come back from a frame for ${duration(line.pulse_age_s)}.` };
  }
  if (status.live && !status.connected) return { text: "CAMERA AWAY", reason: result?.reason ?? "It gives no frames." };
  if (result === null) return { text: "WAITING", reason: "No part has come yet." };
  if (status.live && status.last_result_age_s >= line.monitor.silent_s) {
    return { text: "NO FRAMES", reason: `Nothing for ${duration(status.last_result_age_s)}.` };
  }
  return null;
}

function about(result, status, recipes) {
  const age = status.last_result_age_s;
  const when = age >= OLD_S ? `${duration(age)} ago` : clock(result.wall_time);
  const recipe = recipes?.names.length > 1 ? result.recipe : null;
  return [result.part_id ?? result.name, recipe, when].filter(Boolean).join(" · ");
}
