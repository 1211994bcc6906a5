// What is said of the whole line: state, alarms, model, shadow, outputs.
import { clock, count, duration, field, fillRows, number, setText, showFault } from "./dom.js";
import { offerLesson } from "./lesson.js";
import { confirmPost } from "./post.js";

const SHOWN_ALARMS = 2;
const SWAPS = {
  shadow: "Put the shadow model in use…",
  before: "Go back to the model before the lesson…",
  anew: "Load the bundle anew…",
};
const byId = (id) => document.getElementById(id);
let recipes = null; // of the last answer

byId("alarms").querySelector("button").addEventListener("click", ({ target }) => {
  const box = byId("alarms");
  box.dataset.all = box.dataset.all === "yes" ? "no" : "yes";
  setText(target, box.dataset.all === "yes" ? "Show fewer" : `and ${box.querySelectorAll("li").length - SHOWN_ALARMS} more`);
});

export function showState(text, state) {
  const node = field(document, "state");
  setText(node, text);
  node.dataset.state = state;
}

export function showLine(status, now) {
  setText(field(document, "subtitle"), status.model.name ?? "line monitor");
  setText(field(document, "uptime"), duration(status.uptime_s));
  setText(field(document, "clock"), clock(now * 1000));
  if (status.healthy) showState("RUNNING", "running");
  else showState(status.state === "running" ? "NOT HEALTHY" : status.state.toUpperCase(), "unhealthy");
  showAlarms(status);
  showModel(status.model, status.monitor.can_swap);
  showRecipes(status.recipes, status.monitor.can_select);
  showShadow(status.shadow);
  offerLesson(status.monitor.can_teach);
  showSinks(status.sinks);
}

function showAlarms(status) {
  const known = status.alarms.map((alarm) => [alarm.camera, alarm.text, `since ${clock(alarm.since)}`]);
  const isKnown = (text) => status.alarms.some((alarm) => text === `camera ${alarm.camera} is away`);
  const others = status.monitor.problems.filter((text) => !isKnown(text)).map((text) => ["", text, ""]);
  const texts = status.state === "running" ? [...others, ...known] : known;
  const box = byId("alarms"), more = box.querySelector("button");
  const key = JSON.stringify(texts.map(([camera, text]) => [camera, text.replace(/\d+ s$/, "")]));
  box.hidden = texts.length === 0;
  more.hidden = texts.length <= SHOWN_ALARMS;
  setText(more, box.dataset.all === "yes" ? "Show fewer" : `and ${texts.length - SHOWN_ALARMS} more`);
  if (box.dataset.key === key) return; // or a screen reader would read them out twice a second
  box.dataset.key = key;
  box.firstElementChild.replaceChildren(
    ...texts.map(([camera, text, since]) => {
      const item = document.createElement("li");
      const what = document.createElement("b"), when = document.createElement("span");
      what.textContent = camera ? `${camera}: ${text}` : text;
      when.textContent = since;
      item.append(what, when);
      return item;
    }),
  );
}

function showModel(model, canSwap) {
  fillRows(byId("model"), [
    ["Name", model.name],
    ["Bundle", model.bundle_id?.slice(0, 12)],
    ["Engine", model.engine],
    ["Device", model.provider],
    ["Precision", model.precision?.toUpperCase()],
    ["Threshold", model.threshold === undefined ? null : number(model.threshold)],
    ["Swaps", model.swaps || null],
  ]);
  showFault(byId("swap-error"), model.swap_error);
  byId("swap").hidden = !canSwap || model.swap_to === null;
  setText(byId("swap"), SWAPS[model.swap_to] ?? "");
}

/** Nothing of them where the line has but one. */
function showRecipes(found, canSelect) {
  recipes = found?.names.length > 1 ? found : null;
  fillRows(byId("recipes"), recipes === null ? [] : [
    ["Recipe", recipes.selected],
    ["Loaded", recipes.loaded.join(", ")],
    ["Loading", recipes.loading],
  ]);
  const errors = Object.entries(recipes?.errors ?? {}).map(([name, why]) => `Recipe ${name}: ${why}`);
  showFault(byId("recipe-errors"), errors.join("\n"));
  byId("change-recipe").hidden = recipes === null || !canSelect;
}

byId("change-recipe").addEventListener("click", () => {
  byId("recipe").replaceChildren(
    ...recipes.names.map((name) => {
      const text = recipes.loaded.includes(name) ? name : `${name} (not loaded yet)`;
      return new Option(text, name, false, name === recipes.selected);
    }),
  );
});
confirmPost("change-recipe", "confirm-recipe", "recipe-now", () => `api/recipe?name=${encodeURIComponent(byId("recipe").value)}`);

function showShadow(shadow) {
  byId("shadow").hidden = shadow === null;
  if (shadow === null) return;
  const share = shadow.compared ? `${((100 * shadow.disagreed) / shadow.compared).toFixed(2)} %` : "–";
  setText(field(document, "shadow-share"), share);
  fillRows(byId("shadow-rows"), [
    ["Bundle", shadow.bundle_id.slice(0, 12)],
    ["Compared", count(shadow.compared)],
    ["OK, shadow NG", count(shadow.ok_to_ng)],
    ["NG, shadow OK", count(shadow.ng_to_ok), shadow.ng_to_ok > 0],
    ["Skipped", count(shadow.skipped)],
  ]);
  showFault(byId("shadow-error"), shadow.error);
}

function showSinks(sinks) {
  const rows = Object.entries(sinks).flatMap(([name, sink]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    const cells = [sink.written, sink.waiting, sink.lost].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = count(value);
      return cell;
    });
    cells[2].classList.toggle("fault", sink.lost > 0);
    row.append(head, ...cells);
    if (!sink.error) return [row];
    const why = document.createElement("tr");
    const cell = document.createElement("td");
    cell.colSpan = 4;
    cell.className = "fault";
    cell.textContent = sink.error;
    why.append(cell);
    return [row, why];
  });
  byId("sinks").replaceChildren(...rows);
}
