// Asks the line twice a second and shows what it says; shows that it doesn't know as soon as the line doesn't answer.
import { Camera } from "./camera.js";
import { clock, setText } from "./dom.js";
import { clearGallery, offerCameras, showGallery, toggleLargeHeat } from "./gallery.js";
import { showLine, showState } from "./panels.js";
import { confirmPost } from "./post.js";
import { showShift } from "./shift.js";

const PERIOD_MS = 500;
const TIMEOUT_MS = 3000;

const cameras = new Map();
const heat = document.getElementById("heat");
const lost = document.getElementById("lost");
const overview = document.getElementById("overview");
let run = null; // which run of the server the sequence belongs to
let sequence = 0;
let answered = Date.now();

class NoAnswer extends Error {}

async function ask(path) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
    if (response.ok) return await response.json();
    if (response.status === 401) location.reload(); // the token has changed
  } catch {
    throw new NoAnswer("The line does not answer.");
  }
  throw new NoAnswer(`The line answers ${response.status}.`);
}

async function look() {
  const [status, history, gallery] = await Promise.all([
    ask("api/status"), ask(`api/history?since=${sequence}`), ask("api/gallery"),
  ]);
  if (run !== history.run) {
    const isPartial = sequence > 0;
    forget(history.run);
    if (isPartial) return look();
  }
  sequence = history.sequence;
  showLine(status, history.now);
  showCameras(status, history);
  showShift(status.cameras);
  offerCameras(Object.keys(status.cameras));
  showGallery(gallery);
  answered = Date.now();
  document.body.dataset.connection = "live";
  lost.hidden = true;
}

function forget(newRun) {
  run = newRun;
  sequence = 0;
  cameras.forEach((camera) => {
    camera.root.remove();
    camera.chip.remove();
  });
  cameras.clear();
  clearGallery();
}

function showCameras(status, history) {
  const grid = document.getElementById("cameras");
  for (const [name, counts] of Object.entries(status.cameras)) {
    if (!cameras.has(name)) {
      cameras.set(name, new Camera(name));
      grid.append(cameras.get(name).root);
      overview.append(cameras.get(name).chip);
      overview.hidden = cameras.size < 2;
      grid.dataset.count = String(cameras.size);
    }
    cameras.get(name).update(counts, history.cameras[name], status, history.now, isHeatOn());
  }
}

/** Never a stale verdict: everything that was true a moment ago is taken away. */
function lose(text, detail) {
  document.body.dataset.connection = "lost";
  cameras.forEach((camera) => camera.lose(text));
  showState(text, "lost");
  lost.hidden = false;
  setText(lost.querySelector("strong"), text);
  setText(lost.querySelector("span"), `${detail} Last answer at ${clock(answered)}.`);
}

function loseIfOld() {
  if (document.body.dataset.connection === "live" && Math.abs(Date.now() - answered) > TIMEOUT_MS + PERIOD_MS) {
    lose("NO CONNECTION", "The line has not answered for a while.");
  }
}

async function watch() {
  for (;;) {
    try {
      await look();
    } catch (error) {
      if (error instanceof NoAnswer) lose("NO CONNECTION", error.message);
      else lose("PAGE FAULT", `What the line says can't be shown (${error.message}); reload the page.`);
    }
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}

function isHeatOn() {
  return heat.getAttribute("aria-pressed") === "true";
}

function toggleHeat() {
  heat.setAttribute("aria-pressed", String(!isHeatOn()));
}

heat.addEventListener("click", toggleHeat);
confirmPost("swap", "confirm", "swap-now", () => "api/swap", "Loading…");
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "h" || event.ctrlKey || event.metaKey || event.altKey) return;
  const dialog = document.querySelector("dialog[open]");
  if (dialog?.id === "large") toggleLargeHeat();
  else if (!dialog) toggleHeat();
});
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
document.addEventListener("visibilitychange", loseIfOld); // a tab that slept shows what was true when it fell asleep
setInterval(loseIfOld, PERIOD_MS);
watch();
