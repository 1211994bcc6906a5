// The last bad parts, of one camera and verdict or of all, and one of them large.
import { clock, clone, count, field, fillRows, number, setText } from "./dom.js";
import { offerMarks } from "./lesson.js";

const list = document.getElementById("gallery");
const ofCamera = document.getElementById("gallery-camera");
const ofVerdict = document.getElementById("gallery-verdict");
const large = document.getElementById("large");
const largeHeat = document.getElementById("large-heat");
const shown = new Map();
let last = { items: [], totals: [] };
let enlarged = null;

export function showGallery(gallery) {
  last = gallery;
  const isAsked = (of) =>
    (!ofCamera.value || of.camera === ofCamera.value) && (!ofVerdict.value || of.verdict === ofVerdict.value);
  const items = gallery.items.filter(isAsked);
  const ids = new Set(items.map((item) => item.id));
  for (const [id, node] of shown) {
    if (!ids.has(id)) {
      node.remove();
      shown.delete(id);
    }
  }
  items.forEach((item, place) => {
    if (!shown.has(item.id)) shown.set(item.id, entry(item));
    if (list.children[place] !== shown.get(item.id)) list.insertBefore(shown.get(item.id), list.children[place] ?? null);
  });
  document.getElementById("gallery-empty").hidden = items.length > 0;
  list.hidden = items.length === 0;
  const total = gallery.totals.filter(isAsked).reduce((sum, of) => sum + of.total, 0);
  setText(field(document, "gallery-count"), total ? `the last ${count(items.length)} of ${count(total)}` : "");
}

/** Offer these cameras to choose from. */
export function offerCameras(names) {
  for (const name of names) {
    if ([...ofCamera.options].some((option) => option.value === name)) continue;
    ofCamera.add(new Option(name || "the camera", name));
  }
  ofCamera.closest("label").hidden = names.length < 2;
}

export function clearGallery() {
  list.replaceChildren();
  shown.clear();
  ofCamera.length = 1;
}

export function toggleLargeHeat() {
  largeHeat.setAttribute("aria-pressed", String(largeHeat.getAttribute("aria-pressed") !== "true"));
  showLarge();
}

function entry(item) {
  const node = clone("gallery-template");
  const image = node.querySelector("img");
  image.src = item.image;
  image.alt = describe(item);
  node.dataset.verdict = item.verdict;
  setText(node.querySelector("b"), item.score === null ? item.verdict : `${item.verdict} ${number(item.score)}`);
  setText(node.querySelector(".soft"), [clock(item.wall_time), item.camera].filter(Boolean).join(" · "));
  node.querySelector("button").addEventListener("click", () => enlarge(item));
  return node;
}

function describe(item) {
  const score = item.score === null ? "" : `, score ${number(item.score)}`;
  return `${item.verdict} part ${item.part_id ?? item.name}${item.camera ? ` of camera ${item.camera}` : ""}${score}`;
}

function enlarge(item) {
  enlarged = item;
  setText(document.getElementById("large-title"), `${item.verdict} ${item.name}`);
  fillRows(large.querySelector("dl"), [
    ["Part", item.part_id],
    ["Recipe", item.recipe],
    ["Camera", item.camera],
    ["Frame", item.frame_id],
    ["Time", new Date(item.wall_time).toLocaleString("en-GB")],
    ["Score", item.score === null ? null : `${number(item.score)}, threshold ${number(item.threshold)}`],
    ["Reason", item.reason],
    ["Regions", item.area_px === null ? null : `${item.regions}, ${count(item.area_px)} pixels`],
    ["Bundle", item.bundle_id?.slice(0, 12)],
  ]);
  offerMarks(item.kept);
  showLarge();
  large.showModal();
}

function showLarge() {
  const image = large.querySelector("img");
  image.src = `${enlarged.image}?heat=${largeHeat.getAttribute("aria-pressed") === "true" ? 1 : 0}`;
  image.alt = describe(enlarged);
}

largeHeat.addEventListener("click", toggleLargeHeat);
for (const choice of [ofCamera, ofVerdict]) choice.addEventListener("change", () => showGallery(last));
